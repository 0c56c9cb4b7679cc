"""profiles/slurm names every rule that may ask for GPUs, so that a user fills in partition and model once for all."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from factories import ROOT

PROFILE = ROOT / "profiles" / "slurm" / "config.yaml"
WITHOUT = {"prepare_data", "fetch_model", "fetch_gguf", "warm_start", "make_tables", "make_figures", "make_report",
           "validate", "check"}  # fmt: skip
"""Rules of the kinds `light` and `prepare`."""


def rules_with_gpus(path: Path) -> set[str]:
    blocks = re.split(r"^\s*rule (\w+):", path.read_text("utf-8"), flags=re.MULTILINE)
    return {name for name, text in zip(blocks[1::2], blocks[2::2], strict=True) if re.search(r"^\s+gpu=", text, re.M)}


def test_every_rule_that_may_ask_for_gpus_is_named():
    rules = {rule for path in (ROOT / "workflow" / "rules").glob("*.smk") for rule in rules_with_gpus(path)}
    assert rules >= {"train_grpo", "quantize"}
    settings = yaml.safe_load(PROFILE.read_text("utf-8"))["set-resources"]
    assert rules - WITHOUT == set(settings)
    assert all(values == {"nodes": 1} for values in settings.values())

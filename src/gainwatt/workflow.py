"""What the Snakemake rules ask of a study: paths of targets, what a rule needs, which interpreter runs it.

Parsing a Snakefile imports this module; it must not import anything heavy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.study import (
    BASE,
    DENSE,
    Layout,
    Study,
    evaluation_cells,
    is_hub,
    load_study,
    quantization_cells,
    trained_variants,
    variants,
)
from gainwatt.study.operations import Needs

DEFAULT_STUDY = "config/demo.yaml"
STUDY_VARIABLE = "GAINWATT_STUDY"
OVERRIDES_VARIABLE = "GAINWATT_SET"


def study_from_config(config: Mapping[str, Any], root: Path) -> Study:
    """The study that `snakemake --config study=FILE set='["evaluate.batch_size=8"]'` names.

    The choice is handed to the scripts through the environment, not through rule parameters: Snakemake would otherwise
    run every rule again when any setting changes. A rule names the settings that decide its result by their hash.
    """
    unknown = set(config) - {"study", "set"}
    if unknown:
        raise InputError(f"--config has no key {min(unknown)!r}", "the keys are: study=FILE, set=SECTION.KEY=VALUE")
    path = str(config.get("study", DEFAULT_STUDY))
    overrides = _overrides(config.get("set", []))
    study = load_study(path, overrides)
    os.environ[STUDY_VARIABLE] = path
    os.environ[OVERRIDES_VARIABLE] = json.dumps(overrides)
    source = str(root / "src")
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != source]
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *others])
    return study


def _overrides(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if not isinstance(value, list):
        value = [value]
    return [str(entry) for entry in value]


def needs(study: Study, kind: str) -> Needs:
    """What a kind of rule (light, prepare, train, quantize, evaluate, diagnose) asks of the machine."""
    found = getattr(study.resources, kind)
    assert isinstance(found, Needs)  # noqa: S101 - a rule that names no kind is a bug of the workflow
    return found


def growing(amount: int) -> Callable[..., int]:
    """A Snakemake resource that grows with the attempt: twice as much on the second, three times on the third."""

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return amount * attempt

    return of_attempt


def interpreter(study: Study, kind: str) -> str:
    """The python that runs a rule's script: the study's own choice, the pinned environment, or this one."""
    name = needs(study, kind).environment
    if name in study.environments:
        return study.environments[name]
    pinned = Path(".envs") / name / "bin" / "python"
    if pinned.exists() or name != "core":
        return str(pinned)
    return sys.executable


def launcher(study: Study, kind: str) -> str:
    """The interpreter, under `accelerate launch` where the rule is given more than one GPU."""
    python, gpus = interpreter(study, kind), needs(study, kind).gpus
    if gpus <= 1:
        return python
    return f"{python} -m accelerate.commands.launch --num_machines 1 --num_processes {gpus} --dynamo_backend no"


def local_sources(study: Study) -> list[str]:
    """Files of a local data folder; nothing for the hub and for generated problems."""
    source = study.data.source
    if source == "embedded" or is_hub(source):
        return []
    return [str(Path(source) / f"{split}.jsonl") for split in ("train", "test")]


def base_stage(study: Study) -> str:
    """The stage that brings the base model: `warm_start` for the embedded model, else `fetch_model`."""
    return "warm_start" if study.model.source == "embedded" else "fetch_model"


def records(study: Study, layout: Layout) -> list[str]:
    """Every record that the tables are made of."""
    cells = [layout.record("evaluate_gsm8k", cell.name) for cell in evaluation_cells(study)]
    diagnoses = [layout.record("diagnose_weights", variant) for variant in variants(study)]
    return [str(path) for path in (*cells, *diagnoses)]


def every_record(study: Study, layout: Layout) -> list[str]:
    """Every record of the study: those of `records`, and those of the stages before them."""
    made = [layout.record("prepare_data", "data"), layout.record(base_stage(study), BASE)]
    made += [layout.record("train_grpo", variant) for variant in trained_variants(study)]
    made += [layout.record("quantize", cell.name) for cell in quantization_cells(study)]
    return list(dict.fromkeys([*map(str, made), *records(study, layout)]))


def products(study: Study, layout: Layout) -> list[str]:
    """What a run makes for people to read."""
    return [str(layout.tables / "summary.md"), str(layout.figures / "index.json")]


def fetched(study: Study, layout: Layout) -> list[str]:
    """What must be at hand before jobs run on machines without internet: data and base model."""
    splits = ["train", "test"] + (["sft", "validation"] if study.model.source == "embedded" else [])
    paths = [layout.data(split) for split in splits]
    if study.model.source != "embedded":
        paths.append(layout.manifest(BASE, DENSE))
    return [str(path) for path in paths]

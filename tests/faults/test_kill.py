"""`kill -9` in every stage: the same command goes on, ends with the same result, and leaves nothing half-written."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

from faults.conftest import COMMANDS

pytestmark = pytest.mark.faults
# What a record and an item say of the result; the rest is times, joules and the machine.
RECORD = ("kind", "schema_version", "stage", "study", "cell", "status", "reason", "inputs")
ITEM = ("index", "prompt_sha256", "gold", "text", "answer", "correct", "tokens", "finish_reason")
CALL = ("arm", "batch", "order", "call")
STEP = ("step", "reward", "loss", "prompt_indices", "completion_tokens_mean")
PROFILED = ("step", "status", "reward", "loss", "prompt_indices", "completion_tokens", "idle_slot_steps")
KEPT = {
    "evaluate_gsm8k": ITEM,
    "train_grpo": STEP,
    "profile_training": PROFILED,
    "profile_inference": CALL,
    "prune_heads": ("point",),
}
"""Columns of the tables beside records that do not differ between any two runs."""


def product(place, stage):
    """What a stage made, without what differs between any two runs."""
    made: dict[str, object] = {}
    if stage == "validate":
        return (place.results / "tables" / "validation.csv").read_bytes()
    if stage == "make_report":
        return {name: (place.results / name).read_bytes() for name in ("report.html", "items.html")}
    folders = {"prepare_data": "data", "make_tables": "tables", "make_figures": "figures"}
    if stage in folders:
        folder = place.results / folders[stage]
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in sorted((place.results / "records" / stage).iterdir()):
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            made[path.name] = {name: record[name] for name in RECORD}
            made["checkpoint"] = record["outputs"].get("checkpoint")
        else:
            columns = parquet.read_table(path).to_pydict()
            chosen = KEPT.get(stage, tuple(columns))
            made[path.name] = {name: columns[name] for name in chosen}
    return made


def points(stage, events):
    """Where to kill: one random write of the middle, and the renaming that finishes the last file."""
    renames = [i for i, event in enumerate(events) if event.startswith("os.rename")]
    return [random.Random(stage).randint(2, max(2, renames[-1])), events[renames[-1]]]


@pytest.mark.parametrize("stage", COMMANDS)
def test_the_same_command_goes_on(before, after, stage):
    place, whole = before(stage), after(stage)
    expected = product(whole, stage)
    for at in points(stage, whole.events):
        done = place.run(stage, at=at)
        assert done.returncode == -9, (at, done.stderr)
        assert not [name for name in place.files() if name.startswith(f"records/{stage}/") and name.endswith(".json")]
    done = place.run(stage)
    assert done.returncode == 0, done.stderr
    assert product(place, stage) == expected
    assert place.files() == whole.files()


def test_bringing_a_local_model_goes_on(before, after, monkeypatch):
    monkeypatch.setitem(COMMANDS, "fetch_model", ("--set", "model.source=local"))
    manifest = Path("checkpoints", "base", "dense", "manifest.json")
    made = []
    for at in (None, 1, 2):
        place = before("prepare_data")
        shutil.copytree((after("warm_start").results / manifest).parent, place.folder / "local")
        (place.folder / "local" / "manifest.json").unlink()
        if at is not None:
            assert place.run("fetch_model", at=at).returncode == -9
        done = place.run("fetch_model")
        assert done.returncode == 0, done.stderr
        made.append((json.loads((place.results / manifest).read_text())["sha256"], place.files()))
        shutil.rmtree(place.folder)
    assert made[0] == made[1] == made[2]


def test_a_resumed_training_does_not_start_over(before, after):
    place, whole = before("train_grpo"), after("train_grpo")
    third = [i for i, event in enumerate(whole.events, start=1) if "checkpoint-3" in event]
    assert place.run("train_grpo", at=third[0]).returncode == -9
    assert place.run("train_grpo").returncode == 0
    record = json.loads((place.results / "records" / "train_grpo" / "grpo-s0.json").read_text())
    assert record["metrics"]["resumed_from_step"] == 2
    assert record["metrics"]["steps_this_run"] == 2


@pytest.mark.parametrize(("signal", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_leaves_nothing_half_written(before, after, signal, code):
    """Ctrl-C, and the SIGTERM of a cluster's time limit."""
    stage = "evaluate_gsm8k"
    place, whole = before(stage), after(stage)
    there = place.files()
    done = place.run(stage, at="os.rename records/evaluate_gsm8k/grpo-s0.bnb-nf4.json", signal=signal)
    assert done.returncode == code, done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    left = place.files() - there
    assert not [name for name in left if name.endswith((".tmp", ".old", ".lock"))]
    assert "records/evaluate_gsm8k/grpo-s0.bnb-nf4.json" not in left
    if signal == "SIGTERM":
        assert place.run(stage).returncode == 0
        assert product(place, stage) == product(whole, stage)
        assert place.files() == whole.files()

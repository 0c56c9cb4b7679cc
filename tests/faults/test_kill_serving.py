"""`kill -9` in the serving benchmark: cells that were done stay as they are, and the same command measures the rest."""

from __future__ import annotations

import json

import pytest

from faults.conftest import COMMANDS

pytestmark = pytest.mark.faults
STAGE = "benchmark_serving"
SERVE = (
    "serve={engine: transformers, lengths: [fixed], fixed_prompt_tokens: 8, fixed_new_tokens: 4, max_model_tokens: 64, "
    "repeats: 1, window_s: 0, warmup_batches: 0, limits: false, schemes: [fp32], variants: [base], "
    "offline: {sequential_prompts: 2, batch_sizes: [2, 3], batches_per_pass: 1}}"
)
FIRST, LAST = "base.fp32.offline-fixed-sequential.json", "base.fp32.offline-fixed-b3.json"


@pytest.fixture
def place(before, monkeypatch):
    monkeypatch.setitem(COMMANDS, STAGE, ("--variant", "base", "--scheme", "fp32", "--set", SERVE))
    return before("train_grpo")


def test_the_same_command_goes_on_with_the_cells_that_are_left(place):
    records = place.results / "records" / STAGE
    killed = place.run(STAGE, at=f"os.rename records/{STAGE}/{LAST}")
    assert killed.returncode == -9, killed.stderr
    assert not (records / LAST).exists()
    assert not (records / "base.fp32.json").exists()
    kept = (records / FIRST).read_bytes()
    done = place.run(STAGE)
    assert done.returncode == 0, done.stderr
    assert (records / FIRST).read_bytes() == kept
    assert "offline-fixed-sequential ..." not in done.stderr
    grid = json.loads((records / "base.fp32.json").read_text())
    assert (grid["metrics"]["cells"], grid["metrics"]["cells_ok"]) == (3, 3)
    assert not [name for name in place.files() if name.endswith((".tmp", ".lock")) or name.startswith("work/")]


def test_a_signal_in_the_middle_of_a_cell_leaves_no_record_of_it(place):
    ended = place.run(STAGE, at=f"os.rename records/{STAGE}/{FIRST}", signal="SIGTERM")
    assert ended.returncode == 143, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (place.results / "records" / STAGE / FIRST).exists()
    assert place.run(STAGE).returncode == 0

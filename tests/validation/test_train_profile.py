"""The expectations about training profiles: records that meet them, and one that breaks each."""

from __future__ import annotations

import pytest

from factories import base_record, study_content, write_table
from gainwatt.record import read_record, write_record
from gainwatt.study import Layout, Study
from gainwatt.study.train_profile import STAGE
from gainwatt.validation import EXPECTATIONS, validate
from train_profiles import steps, write_profile

from .records import edit

NAME = "base.bnb-nf4"


@pytest.fixture
def study(tmp_path):
    section = {"bases": ["bnb-nf4"], "steps": 8, "warmup_steps": 1}
    made = Study.model_validate(study_content(tmp_path, matrix=False, train_profile=section))
    write_profile(made, "bnb-nf4")
    return made


def metrics(**values):
    return lambda study: edit(study, STAGE, NAME, lambda record: record["metrics"].update(values))


def rows(**of_row):
    """A break of the table of steps that keeps the record's hash of it in step."""

    def change(study):
        made = [{**row, **{name: of(row) for name, of in of_row.items()}} for row in steps(study, "bnb-nf4")]
        entry = write_table(Layout.of(study).record(STAGE, NAME).with_suffix(".steps.parquet"), made)
        edit(study, STAGE, NAME, lambda record: record["outputs"].update(steps=entry))

    return change


def small_gpu(study):
    gpus = [{"index": 0, "name": "A small board", "memory_mib": 1000}]
    edit(study, STAGE, NAME, lambda record: record["environment"].update(gpus=gpus))


BREAKS = [
    ("profiled_times", "error", rows(step_s=lambda row: row["step_s"] / 2)),
    ("profiled_times", "error", metrics(rollouts_per_min=1.0)),
    ("profiled_lengths", "error", metrics(long_tail_rate=1.0)),
    ("profiled_lengths", "error", metrics(long_tail_threshold_tokens=None)),
    ("profiled_lengths", "error", rows(completion_tokens=lambda row: [600] * len(row["completion_tokens"]))),
    ("profiled_memory", "error", metrics(peak_allocated_update_mib=100.0)),
    ("profiled_memory", "error", small_gpu),
    ("profiled_steps", "warning", metrics(oom_count=2, oom_first="step 3, update: no room")),
    ("profiled_steps", "warning", metrics(steps_ok=3)),
]


def found(study):
    relevant = {name for name in EXPECTATIONS if name.startswith("profiled_")}
    return {(f.severity, f.check) for f in validate(study, Layout.of(study)) if f.check in relevant}


def test_a_clean_profile_meets_them(study):
    assert found(study) == set()


@pytest.mark.parametrize(("check", "severity", "damage"), BREAKS, ids=range(len(BREAKS)))
def test_a_record_that_breaks_one_is_found(study, check, severity, damage):
    damage(study)
    assert (severity, check) in found(study)


def test_a_profile_without_a_step_is_no_broken_one(study):
    path = Layout.of(study).record(STAGE, NAME)
    whole = read_record(path)
    write_record(path, base_record(study, STAGE, whole["cell"], status="oom", reason="no room", metrics={}))
    assert found(study) == set()

"""Each step stands in the log once, as it was trained into the weights."""

from __future__ import annotations

import pytest
from pyarrow import parquet

from gainwatt.errors import InputError
from gainwatt.training.steplog import StepLog, warm_speed


def filled(folder, steps, resume_step=0):
    log = StepLog(folder, resume_step=resume_step)
    for step in steps:
        log.append({"step": step, "reward": step / 10, "kl": None, "prompt_indices": [step, step + 1]})
    return log


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    filled(tmp_path, range(1, 6))
    log = filled(tmp_path, [4], resume_step=3)
    assert [row["step"] for row in log.rows] == [1, 2, 3, 4]
    assert [row["step"] for row in StepLog(tmp_path, resume_step=4).rows] == [1, 2, 3, 4]


def test_a_cut_last_line_is_dropped(tmp_path):
    log = filled(tmp_path, range(1, 4))
    log.path.write_bytes(log.path.read_bytes()[:-9])
    assert [row["step"] for row in StepLog(tmp_path, resume_step=2).rows] == [1, 2]


def test_a_log_that_does_not_reach_the_checkpoint_is_refused(tmp_path):
    filled(tmp_path, range(1, 3))
    with pytest.raises(InputError, match=r"holds 2 steps, but training goes on from step 5") as caught:
        StepLog(tmp_path, resume_step=5)
    assert str(tmp_path) in caught.value.hint


def test_a_missing_log_is_refused_unless_training_starts(tmp_path):
    with pytest.raises(InputError, match="holds 0 steps"):
        StepLog(tmp_path, resume_step=1)
    assert StepLog(tmp_path / "new", resume_step=0).rows == []


def test_starting_anew_empties_the_log(tmp_path):
    filled(tmp_path, range(1, 4))
    assert StepLog(tmp_path, resume_step=0).rows == []
    assert (tmp_path / "steps.jsonl").read_text() == ""


def test_prompt_indices_and_parquet(tmp_path):
    log = filled(tmp_path, range(1, 4))
    assert log.prompt_indices() == [1, 2, 2, 3, 3, 4]
    log.write_parquet(tmp_path / "steps.parquet")
    table = parquet.read_table(tmp_path / "steps.parquet").to_pydict()
    assert table["step"] == [1, 2, 3]
    assert table["reward"] == [0.1, 0.2, 0.3]
    assert table["kl"] == [None] * 3
    assert table["prompt_indices"] == [[1, 2], [2, 3], [3, 4]]


def test_warm_speed_leaves_the_first_step_of_each_process_out():
    rows = [
        {"step_s": step_s, "rollout_s": step_s / 2, "prompt_indices": [1, 2], "cold": cold}
        for step_s, cold in ((9.0, True), (2.0, False), (4.0, False), (7.0, True), (3.0, False))
    ]
    assert warm_speed(rows, 8) == {"step_s_warm_mean": 3.0, "rollouts_per_min_warm": 60 * 8 * 6 / 4.5}
    assert warm_speed(rows[:1], 8) == {"step_s_warm_mean": None, "rollouts_per_min_warm": None}
    for row in rows:
        del row["cold"]  # steps that an earlier version logged
    assert warm_speed(rows, 8)["step_s_warm_mean"] == 5.0

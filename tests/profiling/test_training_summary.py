"""Numbers of a training profile from rows: quantiles, long tail, idle slots, joules, what is null and why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.profiling.training_rows import JoulesFile, eos_trimmed_length, groups_of, joules_of, slots, with_joules
from gainwatt.profiling.training_summary import quantile, summarise

PARTS = ("rollout", "score", "update", "optimizer")
KINDS = ("allocated", "reserved", "rss")
TIMES = {"rollout": 2.0, "score": 0.5, "update": 1.0, "optimizer": 0.25}


def row(step, *, lengths=((4, 8), (2, 2)), status="ok", warmup=False, watts=20.0, idle_w=5.0, slower=1.0, **changed):
    """A step of two batches of one group each; every part draws `watts`."""
    flat = [length for batch in lengths for length in batch]
    seconds = {part: slower * time for part, time in TIMES.items()}
    seconds["step"] = sum(seconds.values()) + 0.25
    made = {
        "step": step, "warmup": warmup, "status": status, "oom_part": None, "reason": None, "completions": len(flat),
        "completion_tokens": flat, "padded_tokens": [max(batch) for batch in lengths for _ in batch], "at_limit": 1,
        "slot_steps": sum(slots(batch)[0] for batch in lengths),
        "idle_slot_steps": sum(slots(batch)[1] for batch in lengths),
        "group_slot_steps": 0, "group_idle_slot_steps": 0, "null_reason": None,
        **{f"{part}_s": time for part, time in seconds.items()},
        **{f"peak_{kind}_{part}_mib": 10.0 + step for kind in KINDS for part in PARTS},
        **{f"gross_j_{part}": watts * time for part, time in seconds.items()},
        **{f"net_j_{part}": (watts - idle_w) * time for part, time in seconds.items()},
    }  # fmt: skip
    return made | changed


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_interpolated_as_numpy_does(values, share):
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-6)


@given(st.lists(st.integers(0, 5), max_size=20), st.sets(st.integers(0, 5), max_size=2))
def test_a_completion_ends_with_its_first_end_token(ids, ends):
    length = eos_trimmed_length(ids, ends)
    assert not set(ids[: max(0, length - 1)]) & ends
    assert length == len(ids) or ids[length - 1] in ends


def test_padding_behind_the_end_token_counts_for_nothing():
    assert eos_trimmed_length([7, 7, 2, 0, 0, 2], {2}) == 3
    assert eos_trimmed_length([7, 7, 7], {2}) == 3


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_idle_slots_are_what_padding_adds(lengths):
    every, idle = slots(lengths)
    assert every - idle == sum(lengths)
    assert 0 <= idle <= every


def test_groups_stay_together():
    assert [list(group) for group in groups_of([1, 2, 3, 4, 5, 6], 3)] == [[1, 2, 3], [4, 5, 6]]


def test_warm_up_and_failed_steps_count_for_no_number():
    rows = [
        row(1, warmup=True, slower=100), row(2), row(3, slower=3),
        row(4, status="oom", oom_part="update", reason="no room", lengths=(), update_s=None, slower=50),
    ]  # fmt: skip
    found = summarise(rows, threshold_tokens=3)
    metrics = found.metrics
    assert (metrics["steps_warmup"], metrics["steps_measured"], metrics["steps_ok"]) == (1, 3, 2)
    assert (metrics["oom_count"], metrics["oom_warmup_count"], metrics["oom_by_part"]["update"]) == (1, 0, 1)
    assert metrics["oom_first"] == "step 4, update: no room"
    assert metrics["rollout_s_mean"] == pytest.approx(4.0)
    assert metrics["rollout_s_p50"] == pytest.approx(4.0)
    assert metrics["rollout_s_p95"] == pytest.approx(5.8)
    assert metrics["rollouts_per_min"] == pytest.approx(60 * 8 / 8.0)
    assert metrics["peak_allocated_rollout_mib"] == 13.0
    assert set(found.null_reasons) == {"rollouts_per_min_high", "idle_group_slot_rate"}


def test_the_long_tail_counts_tokens_and_not_padding():
    metrics = summarise([row(1), row(2)], threshold_tokens=4).metrics
    assert (metrics["long_tail_count"], metrics["long_tail_rate"]) == (2, 0.25)
    assert metrics["long_tail_padded_rate"] == 0.5  # the 4 shares the batch of an 8
    assert metrics["long_tail_low_rate"] < 0.25 < metrics["long_tail_high_rate"]
    assert metrics["long_tail_threshold_tokens"] == 4


def test_idle_slots_are_a_share_of_slots_times_steps():
    metrics = summarise([row(1), row(2)], threshold_tokens=4).metrics
    assert metrics["idle_slot_steps"] == 2 * 4
    assert metrics["idle_slot_rate"] == pytest.approx(4 / 20)


def test_joules_by_rollout_and_step_gross_and_net():
    metrics = summarise([row(1), row(2)], threshold_tokens=4).metrics
    assert metrics["gross_j_per_rollout"] == pytest.approx(40.0 / 4)
    assert metrics["net_j_per_rollout"] == pytest.approx(30.0 / 4)
    assert metrics["gross_j_per_step"] == pytest.approx(80.0)
    assert metrics["gross_j_per_ktok_rollout"] == pytest.approx(1000 * 80.0 / 32)
    assert metrics["mean_rollout_w"] == pytest.approx(20.0)
    assert metrics["gross_j_per_step_cv"] == 0


def test_one_step_without_joules_leaves_the_sums_null_with_its_reason():
    lost = {name: None for name in row(1) if name.startswith(("gross_j", "net_j"))}
    found = summarise([row(1), row(2, **lost, null_reason="the board was lost")], threshold_tokens=4)
    assert found.metrics["gross_j_per_step"] is None
    assert found.null_reasons["gross_j_per_step"] == "the board was lost"
    assert found.metrics["rollouts_per_min"] > 0


def test_a_part_below_idle_by_noise_does_not_cost_the_net_joules():
    noisy = row(1, gross_j_optimizer=1.0, net_j_optimizer=None)
    metrics = summarise([noisy, row(2)], threshold_tokens=4).metrics
    assert metrics["net_j_optimizer"] == pytest.approx((1.0 - 5.0 * 0.25) + 15.0 * 0.25)


def test_where_no_step_went_well_every_number_says_so():
    rows = [row(1, status="oom", oom_part="rollout", reason="no room", lengths=())]
    found = summarise(rows, threshold_tokens=4)
    nulls = {name for name, value in found.metrics.items() if value is None}
    assert {"rollout_s_mean", "rollouts_per_min", "long_tail_rate", "gross_j_per_step", "idle_slot_rate"} <= nulls
    assert nulls == set(found.null_reasons)


def test_joules_belong_to_the_step_that_used_them():
    phases = [
        {"path": "train/step", "index": 0, "energy": {"gross_j": 9.0, "net_j": 5.0}},
        {"path": "train/step/rollout", "index": 0, "energy": {"gross_j": 4.0, "net_j": None, "net_reason": "below"}},
        {"path": "train/step", "index": 1, "energy": {"gross_j": 8.0, "net_j": 4.0}},
        {"path": "load", "index": 0, "energy": {"gross_j": 100.0, "net_j": 50.0}},
    ]
    found = joules_of(phases, {7: {"step": 0, "rollout": 0}, 8: {"step": 1}})
    assert (found[7]["gross_j_step"], found[7]["gross_j_rollout"], found[7]["gross_j_update"]) == (9.0, 4.0, None)
    assert found[7]["null_reason"] == "below"
    assert (found[8]["gross_j_step"], found[8]["gross_j_rollout"], found[8]["null_reason"]) == (8.0, None, None)


def test_joules_of_an_earlier_process_are_kept_up_to_its_checkpoint(tmp_path):
    made = JoulesFile(tmp_path / "joules.json", resume_step=0)
    made.keep({1: {"gross_j_step": 1.0}, 2: {"gross_j_step": 2.0}, 3: {"gross_j_step": 3.0}})
    again = JoulesFile(tmp_path / "joules.json", resume_step=2)
    assert set(again.earlier) == {1, 2}
    rows = with_joules([{"step": 2}, {"step": 3}], again.earlier)
    assert rows[0]["gross_j_step"] == 2.0
    assert rows[1]["gross_j_step"] is None
    assert "killed" in rows[1]["null_reason"]
    (tmp_path / "joules.json").write_text('{"1": ')
    assert JoulesFile(tmp_path / "joules.json", resume_step=2).earlier == {}

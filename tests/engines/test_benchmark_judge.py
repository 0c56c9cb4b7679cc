"""What benchmarks/engines.py says of its runs (benchmarks/engines_judge.py)."""

from __future__ import annotations

import importlib.util

import pytest

from factories import ROOT

spec = importlib.util.spec_from_file_location("engines_judge", ROOT / "benchmarks" / "engines_judge.py")
judging = importlib.util.module_from_spec(spec)
spec.loader.exec_module(judging)


def runs(ours, raw):
    made = [("ours", slices) for slices in ours] + [("raw", slices) for slices in raw]
    return [{"arm": arm, "tok_s": 1000 / sum(slices), "slices_s": slices} for arm, slices in made]


EVEN = [1.0] * 10


def test_a_stumble_of_one_run_is_not_the_arm():
    stumble = [1.0] * 4 + [3.0] + [1.0] * 5
    found = judging.judge(runs([EVEN, stumble, EVEN], [EVEN, EVEN, stumble]))
    assert found["share_at_95_percent_of_raw"] == 1
    assert found["passed"]
    assert found["ours_single_runs"] == found["plain_single_runs"] == pytest.approx(29 / 32)


def test_an_arm_that_is_slow_in_two_tenths_fails():
    slow = [1.0] * 8 + [1.1, 1.1]
    found = judging.judge(runs([slow] * 3, [EVEN] * 3))
    assert found["share_at_95_percent_of_raw"] == pytest.approx(8 / 10.2)
    assert not found["passed"]
    assert found["slice_ratios"][-1] == pytest.approx(1 / 1.1)
    assert found["ratio"] == pytest.approx(10 / 10.2)


def test_one_run_of_each_arm_is_enough():
    assert judging.judge(runs([EVEN], [EVEN]))["plain_single_runs"] == 1


def test_intervals_say_what_other_runs_would_have_given():
    steady = judging.judge(runs([EVEN] * 4, [EVEN] * 4))
    assert steady["ratio_interval"] == steady["share_interval"] == [1, 1]
    slow = [1.0] * 5 + [1.2] * 5
    found = judging.judge(runs([EVEN, EVEN, EVEN, slow, slow], [EVEN] * 5))
    assert found["share_at_95_percent_of_raw"] == 1
    low, high = found["share_interval"]
    assert (low, high) == (pytest.approx(5 / 11), 1)
    low, high = found["ratio_interval"]
    assert 10 / 11 <= low < found["ratio"] < high == 1

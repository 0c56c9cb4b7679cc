from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.profiling.prompts import cut, prompt_ids
from gainwatt.profiling.sampled import mean_above_zero, thinned, total, trapezoid_j


def test_a_constant_power_is_exact():
    times = [0.02 * i for i in range(51)]
    watts = [300.0] * 51
    assert mean_above_zero(watts) == 300
    assert trapezoid_j(times, watts) == pytest.approx(300.0)
    kept, values = thinned(times, watts)
    assert len(kept) == 11
    assert trapezoid_j(kept, values) == pytest.approx(300.0)


def test_readings_of_zero_are_dropped_from_the_mean_alone():
    assert mean_above_zero([0.0, 100.0, -1.0, 200.0]) == 150
    assert mean_above_zero([0.0]) is None
    assert trapezoid_j([0.0, 1.0, 2.0], [0.0, 100.0, 0.0]) == 100


@pytest.mark.parametrize("times", [[], [1.0]])
def test_one_sample_has_no_area(times):
    assert trapezoid_j(times, [5.0] * len(times)) is None


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=60))
def test_kept_samples_are_a_tenth_of_a_second_apart(steps):
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    kept, _ = thinned(times, times)
    assert kept[0] == times[0]
    assert all(b - a >= 0.1 - 1e-5 for a, b in itertools.pairwise(kept))


def test_boards_are_summed_and_one_unknown_makes_the_sum_unknown():
    assert total([1.0, 2.0]) == 3
    assert total([1.0, None]) is None
    assert total([]) is None


class Words:
    """A tokenizer of one token per word."""

    def __call__(self, text, add_special_tokens):
        return {"input_ids": list(range(len(text.split())))}


def test_prompts_are_as_long_as_asked_for_and_differ():
    rows = prompt_ids(Words(), 5, 300)
    assert [len(row) for row in rows] == [300] * 5
    assert len({tuple(row) for row in rows}) == 5
    assert cut([1, 2, 3], 2, 5) == [3, 1, 2, 3, 1]

"""Tests of repeated runs, against SciPy."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gainwatt.comparison.cost import REPEATABILITY, permutation_p, welch_interval

VALUES = st.lists(st.floats(1.0, 100.0).map(lambda x: round(x, 3)), min_size=2, max_size=5)


def test_the_repeatability_limit_is_2_77_deviations():
    assert pytest.approx(2.77, abs=0.005) == REPEATABILITY


@pytest.mark.parametrize(
    ("left", "right"),
    [([1.0, 2.0, 3.0], [2.0, 4.0, 9.0, 5.0]), ([1.0, 1.1, 0.9, 1.05], [2.0, 2.2, 1.9, 2.1])],
)
def test_permutation_test_against_scipy(left, right):
    stats = pytest.importorskip("scipy.stats")
    found = stats.permutation_test(
        (left, right), lambda a, b: abs(a.mean() - b.mean()), permutation_type="independent", alternative="greater"
    )
    assert permutation_p(left, right) == pytest.approx(found.pvalue)


def test_many_values_are_permuted_at_random_and_the_same_each_time():
    left, right = [float(i) for i in range(12)], [i + 6.5 for i in range(12)]
    p_value = permutation_p(left, right)
    assert p_value == permutation_p(left, right)
    assert 0.0001 < p_value < 0.01


def test_welch_interval_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    left, right = [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]
    wanted = stats.ttest_ind(right, left, equal_var=False).confidence_interval(0.95)
    assert welch_interval(left, right) == pytest.approx((wanted.low, wanted.high), abs=1e-3)


def test_repeats_without_spread_have_an_interval_of_no_width():
    assert welch_interval([2.0, 2.0], [3.0, 3.0]) == (1.0, 1.0)


@given(VALUES, VALUES)
@example([1.875, 1.938, 63.812, 99.125, 99.625], [6.938, 99.625])  # equal distances, sums rounded differently
def test_exchanging_the_sides_changes_no_p_value_and_turns_the_interval(left, right):
    assert permutation_p(left, right) == pytest.approx(permutation_p(right, left))
    low, high = welch_interval(left, right)
    assert welch_interval(right, left) == pytest.approx((-high, -low))
    assert 0 < permutation_p(left, right) <= 1


@given(VALUES)
def test_a_run_against_itself_is_no_difference(values):
    assert permutation_p(values, values) == 1.0

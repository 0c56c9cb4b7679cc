"""Paired tests against scipy and statsmodels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.stats.paired import mcnemar_exact, paired_difference, sign_flip_exact


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_the_binomial_test(b, c):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_agrees_with_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for b, c in [(3, 15), (10, 10), (0, 6), (121, 59), (60, 33)]:
        expected = tables.mcnemar([[50, b], [c, 70]], exact=True).pvalue
        assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(1, 4) == 2 * 6 / 32
    assert mcnemar_exact(2, 2) == 1.0
    with pytest.raises(InputError, match="cannot be negative"):
        mcnemar_exact(-1, 3)


def test_difference_runs_from_a_to_b():
    a, b = [1, 1, 0, 0, 0, 0, 0, 1], [1, 0, 1, 1, 1, 0, 0, 1]
    got = paired_difference(a, b, draws=2_000)
    assert (got.n, got.improved, got.worsened) == (8, 3, 1)
    assert got.estimate == 0.25
    assert got.p_value == mcnemar_exact(3, 1)
    assert got.low < 0.25 < got.high
    back = paired_difference(b, a, draws=2_000)
    assert (back.estimate, back.improved, back.worsened, back.p_value) == (-0.25, 1, 3, got.p_value)


def test_interval_of_a_difference_is_the_normal_one_at_full_size():
    """10 % discordant items of 1,319 give a half-width of 1.7 points."""
    a, b = np.zeros(1319, int), np.zeros(1319, int)
    b[:76], a[76:132] = 1, 1
    got = paired_difference(a, b)
    half = (got.high - got.low) / 2
    assert half == pytest.approx(1.96 * np.std(b - a) / np.sqrt(1319), rel=0.03)
    assert half == pytest.approx(0.017, abs=0.001)


def test_equal_cells():
    got = paired_difference([0, 1] * 50, [0, 1] * 50)
    assert (got.estimate, got.p_value) == (0.0, 1.0)
    assert got.low < 0 < got.high


def test_different_items_are_refused():
    with pytest.raises(InputError, match="same items on both sides"):
        paired_difference([0, 1], [0, 1, 1])
    with pytest.raises(InputError, match="same items on both sides"):
        paired_difference([[0, 1]], [[0, 1]])


@settings(max_examples=60)
@given(st.lists(st.integers(-2, 2), max_size=9))
def test_sign_flip_agrees_with_counting_all_patterns(values):
    sizes = [abs(value) for value in values]
    sums = [sum(s * v for s, v in zip(signs, sizes, strict=True)) for signs in product((-1, 1), repeat=len(sizes))]
    expected = sum(abs(total) >= abs(sum(values)) for total in sums) / len(sums)
    assert sign_flip_exact(values) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_flip_is_mcnemar_without_twos(b, c):
    assert sign_flip_exact([1] * b + [-1] * c + [0] * 5) == pytest.approx(mcnemar_exact(b, c))


def test_sign_flip_refuses_other_values():
    with pytest.raises(InputError, match="beyond ±2"):
        sign_flip_exact([3])

"""Wilson's interval against statsmodels and published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.stats.intervals import Interval, two_sided_z, wilson


@pytest.mark.parametrize(("correct", "low", "high"), [(6, 2.8, 12.5), (11, 6.3, 18.6), (4, 1.6, 9.8)])
def test_shares_of_one_hundred(correct, low, high):
    got = wilson(correct, 100)
    assert (round(100 * got.low, 1), round(100 * got.high, 1)) == (low, high)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_agrees_with_statsmodels(counts, confidence):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    correct, n = counts
    expected = proportion.proportion_confint(correct, n, alpha=1 - confidence, method="wilson")
    got = wilson(correct, n, confidence)
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-9)
    assert 0 <= got.low <= correct / n <= got.high <= 1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_no_share(correct, n):
    with pytest.raises(InputError, match="no share"):
        wilson(correct, n)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95])
def test_confidence_must_be_a_probability(confidence):
    with pytest.raises(InputError, match="the confidence is"):
        wilson(1, 2, confidence)


def test_quantile_and_sides():
    assert two_sided_z(0.95) == pytest.approx(1.959963984540054)
    assert Interval(0.1, 0.2).above(0.0)
    assert not Interval(0.0, 0.2).above(0.0)
    assert Interval(-0.2, -0.1).below(0.0)
    assert not Interval(-0.2, 0.0).below(0.0)

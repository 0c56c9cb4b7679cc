"""The unpaired comparison of two shares, against statsmodels."""

from __future__ import annotations

import pytest

from gainwatt.comparison.accuracy import two_shares


@pytest.mark.parametrize("counts", [(56, 70, 48, 80), (9, 10, 3, 10), (0, 20, 5, 30), (338, 1000, 518, 1000)])
def test_two_shares_against_statsmodels(counts):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    right_a, n_a, right_b, n_b = counts
    p_value, interval = two_shares(*counts, 0.95)
    _, wanted_p = proportion.proportions_ztest([right_b, right_a], [n_b, n_a])
    wanted = proportion.confint_proportions_2indep(right_b, n_b, right_a, n_a, method="newcomb", compare="diff")
    assert p_value == pytest.approx(wanted_p)
    assert (interval.low, interval.high) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 5, 0, 9), (5, 5, 9, 9)])
def test_equal_ends_show_nothing(counts):
    p_value, interval = two_shares(*counts, 0.95)
    assert p_value == 1.0
    assert interval.low < 0 < interval.high

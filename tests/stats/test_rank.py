"""Rank correlation against SciPy, and how often its interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gainwatt.stats.rank import correlation_interval, spearman


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=30))
def test_against_scipy(pairs):
    one, two = zip(*pairs, strict=True)
    found = spearman(one, two)
    if len(set(one)) == 1 or len(set(two)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(one, two).statistic)


def test_interval_covers_the_correlation_without_noise():
    """Scores of 40 heads from 24 noisy pairs; the truth is the correlation of the scores without noise."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(40):
        before = rng.normal(size=40)
        after = before + rng.normal(size=40)
        noisy = np.stack([side + rng.normal(scale=0.7, size=(24, 40)) for side in (before, after)])

        def statistic(kept, noisy=noisy):
            return spearman(*noisy[:, kept].mean(axis=1))

        interval = correlation_interval(statistic, 24, confidence=0.95, draws=100, seed=0)
        held += interval.low <= spearman(before, after) <= interval.high
    assert held >= 34  # 38 expected


def test_the_interval_holds_its_estimate_even_at_one():
    values = np.arange(12.0) + np.zeros((6, 12))
    interval = correlation_interval(
        lambda kept: spearman(values[kept].mean(axis=0), range(12)), 6, confidence=0.95, draws=50, seed=0
    )
    assert interval.low <= 1 == interval.high


def test_no_interval_without_a_correlation():
    assert correlation_interval(lambda kept: None, 6, confidence=0.95, draws=50, seed=0) is None
    assert correlation_interval(lambda kept: 0.5, 2, confidence=0.95, draws=50, seed=0) is None

"""A ratio of sums: by hand, against scipy's bootstrap, against the delta method, and where it is not defined."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.errors import InputError
from gainwatt.stats.ratio import bootstrap_ratio


def tokens_and_correct(n=400, seed=0):
    rng = np.random.default_rng(seed)
    correct = (rng.random(n) < 0.4).astype(int)
    return rng.poisson(60 - 20 * correct), correct


def test_estimate_by_hand():
    got = bootstrap_ratio([10, 20, 30, 40], [1, 0, 1, 0], draws=2_000)
    assert got.estimate == 50
    assert got.low < 50


def test_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    tokens, correct = tokens_and_correct()
    theirs = stats.bootstrap(
        (tokens, correct), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True,
        n_resamples=10_000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    got = bootstrap_ratio(tokens, correct)
    assert (got.low, got.high) == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_agrees_with_the_delta_method():
    tokens, correct = tokens_and_correct(n=5_000)
    got = bootstrap_ratio(tokens, correct)
    residual = tokens - got.estimate * correct
    half = 1.96 * residual.std(ddof=1) / np.sqrt(len(tokens)) / correct.mean()
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.04)


def test_a_constant_ratio_has_no_spread():
    got = bootstrap_ratio([2, 4, 6], [1, 2, 3], draws=500)
    assert (got.low, got.estimate, got.high) == (2, 2, 2)


def test_no_right_answer_at_all():
    got = bootstrap_ratio([5, 5], [0, 0])
    assert (got.estimate, got.low, got.high) == (None, None, None)
    assert "zero for every item" in got.reason


def test_one_right_answer_leaves_the_upper_end_open():
    got = bootstrap_ratio([5] * 50, [1] + [0] * 49, draws=2_000)
    assert got.estimate == 250
    assert got.high is None
    assert got.low < 250
    assert "of the resamples" in got.reason


@pytest.mark.parametrize(
    ("numerator", "denominator", "message"),
    [
        ([1, 2], [1], "one numerator and one denominator"),
        ([], [], "one numerator and one denominator"),
        ([1, float("nan")], [1, 1], "not finite"),
        ([1, 1], [1, -1], "negative denominator"),
    ],
)
def test_what_is_no_ratio(numerator, denominator, message):
    with pytest.raises(InputError, match=message):
        bootstrap_ratio(numerator, denominator)

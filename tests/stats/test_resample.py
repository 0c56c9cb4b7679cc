"""The bootstrap against closed forms and an item-by-item bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.errors import InputError
from gainwatt.stats.resample import binary, bootstrap_means, percentile_interval


def test_variance_is_that_of_the_mean():
    rng = np.random.default_rng(3)
    values = rng.choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=1319)
    drawn = bootstrap_means(values, draws=20_000, seed=0)
    assert drawn.shape == (20_000,)
    assert drawn.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(1319), rel=0.03)


def test_same_interval_as_drawing_item_by_item():
    rng = np.random.default_rng(4)
    values = rng.choice([-2, -1, 0, 1, 2], p=[0.01, 0.1, 0.75, 0.12, 0.02], size=800)
    got = percentile_interval(bootstrap_means(values, draws=20_000, seed=0), 0.95)
    plain = values[rng.integers(0, 800, size=(5_000, 800))].mean(axis=1)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=2.5e-3)


def test_same_interval_as_scipys_bootstrap():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(6).choice([-1, 0, 1], p=[0.08, 0.8, 0.12], size=1000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=5_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval  # fmt: skip
    got = percentile_interval(bootstrap_means(values, draws=20_000, seed=0), 0.95)
    assert (got.low, got.high) == pytest.approx((theirs.low, theirs.high), abs=1.5e-3)


def test_several_training_seeds_agree_with_drawing_both_one_by_one():
    """Items and training seeds drawn independently, the seeds' deviation stretched as its docstring says."""
    rng = np.random.default_rng(9)
    values = (rng.random((3, 300)) < np.array([[0.1], [0.2], [0.15]])).astype(int)
    plain = []
    for _ in range(4_000):
        weights = np.bincount(rng.integers(0, 3, 3), minlength=3) / 3
        weights = 1 / 3 + (weights - 1 / 3) * np.sqrt(3 / 2)
        plain.append(float(weights @ values[:, rng.integers(0, 300, 300)].mean(axis=1)))
    got = percentile_interval(bootstrap_means(values, draws=20_000, seed=0), 0.95)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=6e-3)


def test_agreement_of_a_few_items_is_no_certainty():
    got = percentile_interval(bootstrap_means(np.zeros(5, dtype=int), draws=5_000, seed=0), 0.95)
    assert got.low < -0.2
    assert got.high > 0.2


def test_seed_variance_is_not_understated():
    """Items that never differ leave the variance of the seeds' mean: s²/S, with the n−1 form of s²."""
    shares = np.array([0.2, 0.5, 0.3, 0.8])
    values = (np.arange(4000) / 4000 < shares[:, None]).astype(int)
    drawn = bootstrap_means(values, draws=40_000, seed=1)
    items = values.mean(axis=0).var() / 4000
    assert drawn.var() == pytest.approx(shares.var(ddof=1) / 4 + items, rel=0.05)


def test_same_seed_same_draws():
    values = np.array([1, 0, 0, -1, 1, 0])
    first = bootstrap_means(values, draws=100, seed=(7, 1))
    assert (first == bootstrap_means(values, draws=100, seed=(7, 1))).all()
    assert (first != bootstrap_means(values, draws=100, seed=(7, 2))).any()
    assert (first == bootstrap_means(values[::-1], draws=100, seed=(7, 1))).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "shape"),
        (1, "shape"),
        ([0, 1, 2], "1 values that are neither 0 nor 1, the first 2.0"),
        ([0, None], "first nan"),
        ([0.5], "first 0.5"),
        ([[0, 1], [0]], "no array of numbers"),
        (["yes"], "no array of numbers"),
    ],
)
def test_scores_are_zero_or_one(values, message):
    with pytest.raises(InputError, match=f"cell.*{message}"):
        binary(values, "cell")


def test_booleans_are_scores():
    assert binary([True, False], "cell").tolist() == [1, 0]


def test_no_draws():
    with pytest.raises(InputError, match="0 bootstrap draws"):
        bootstrap_means(np.array([1, 0]), draws=0, seed=0)

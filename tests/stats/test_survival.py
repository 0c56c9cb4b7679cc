"""Gain survival: estimates, intervals, verdicts, and the two parts of its variance."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.errors import InputError
from gainwatt.stats.survival import gain_survival, variance_parts


def cells(n, gain_ref, gain_q, *, seeds=1, noise=0.02, base=0.6, rng_seed=0):
    """Four arrays over n items: easy items are right everywhere, `gain` items only after training."""
    rng = np.random.default_rng(rng_seed)
    place = rng.permutation(n) / n

    def noisy(right):
        flip = rng.random((seeds, n)) < noise
        return np.where(flip, 1 - right, right)

    base_row = (place < base).astype(int)
    trained = [noisy((place < base + gain).astype(int)) for gain in (gain_ref, gain_q)]
    if seeds == 1:
        trained = [rows[0] for rows in trained]
    return base_row, trained[0], base_row, trained[1]


@pytest.mark.parametrize(
    ("gain_ref", "gain_q", "verdict"),
    [(0.2, 0.2, "survives"), (0.2, 0.1, "reduced"), (0.2, 0.0, "erased"), (0.0, 0.0, "undecided")],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_verdicts(gain_ref, gain_q, verdict, seeds):
    got = gain_survival(*cells(1319, gain_ref, gain_q, seeds=seeds), margin=0.03, draws=2_000)
    assert got.verdict == verdict, got.why
    assert got.n_seeds == seeds
    assert got.survival == pytest.approx(got.delta_q - got.delta_ref)
    assert got.low <= got.survival <= got.high


def test_few_items_stay_undecided():
    right, wrong = np.ones(8, int), np.zeros(8, int)
    got = gain_survival(wrong, right, wrong, right, margin=0.05)
    assert (got.delta_ref, got.survival) == (1.0, 0.0)
    assert got.verdict == "undecided"


def test_values_by_hand():
    base_ref, trained_ref = [0, 0, 0, 1], [1, 1, 0, 1]
    base_q, trained_q = [0, 0, 1, 0], [1, 0, 0, 0]
    got = gain_survival(base_ref, trained_ref, base_q, trained_q, margin=0.1, draws=500)
    assert (got.delta_ref, got.delta_q, got.survival) == (0.5, 0.0, -0.5)
    assert got.per_seed == (-0.5,)
    # Per item 0, -1, -1, 0: variance 1/3 over 4 items; both signs of two ones reach 2 in half of the patterns.
    assert got.item_variance == pytest.approx(1 / 12)
    assert got.p_value == 0.5
    assert got.seed_variance is None
    assert "one training seed" in got.seed_variance_reason
    assert (got.n_items, got.n_seeds, got.draws, got.margin) == (4, 1, 500, 0.1)


def test_interval_agrees_with_the_normal_one():
    got = gain_survival(*cells(1319, 0.1, 0.06, noise=0.05), margin=0.02)
    half = 1.96 * np.sqrt(got.item_variance)
    assert (got.high - got.low) / 2 == pytest.approx(half, rel=0.05)


def test_seeds_are_paired_and_widen_the_interval():
    n = 1000
    base = np.zeros(n, int)
    shares = np.array([[0.30], [0.20], [0.10]])
    trained_ref = np.broadcast_to(np.arange(n) / n < 0.3, (3, n)).astype(int)
    trained_q = (np.arange(n) / n < shares).astype(int)
    got = gain_survival(base, trained_ref, base, trained_q, margin=0.02)
    assert got.per_seed == pytest.approx((0.0, -0.1, -0.2))
    assert got.survival == pytest.approx(-0.1)
    assert got.seed_variance == pytest.approx(0.01 / 3, rel=0.05)
    assert got.seed_variance_reason is None
    assert got.p_method.startswith("bootstrap over training seeds")
    alone = gain_survival(base, trained_ref[1], base, trained_q[1], margin=0.02)
    assert got.high - got.low > 2 * (alone.high - alone.low)
    both = gain_survival(base, trained_ref[::-1], base, trained_q[::-1], margin=0.02)
    assert both.survival == pytest.approx(got.survival)


def test_one_row_is_one_seed():
    base_ref, trained_ref, base_q, trained_q = cells(200, 0.2, 0.1)
    flat = gain_survival(base_ref, trained_ref, base_q, trained_q, margin=0.02, draws=500)
    rows = gain_survival(base_ref, trained_ref[None], base_q, trained_q[None], margin=0.02, draws=500)
    assert flat == rows


def test_same_seed_same_result():
    arrays = cells(300, 0.2, 0.1, seeds=2)
    assert gain_survival(*arrays, margin=0.02, seed=5) == gain_survival(*arrays, margin=0.02, seed=5)


def test_variance_parts_of_a_worked_layout():
    """Two seeds × three items, by the two-way table: MS_seed 6, MS_residual 0 and item means 1, 2, 3."""
    values = np.array([[0, 1, 2], [2, 3, 4]])
    item_part, seed_part = variance_parts(values)
    assert item_part == pytest.approx(1 / 3)
    assert seed_part == pytest.approx(6 / 3 / 2)


def test_seed_part_leaves_out_what_more_items_would_average():
    """Two seeds × two items: MS_seed 9, MS_residual 1, so (9 − 1) / 2 items / 2 seeds; never below zero."""
    assert variance_parts(np.array([[0, 0], [4, 2]]))[1] == pytest.approx(2.0)
    assert variance_parts(np.array([[0, 1], [1, 0]]))[1] == 0.0


def test_variance_parts_add_up_over_repetitions():
    rng = np.random.default_rng(11)
    means, parts = [], []
    for _ in range(400):
        seed_effect, item_effect = rng.normal(0, 0.05, (4, 1)), rng.normal(0, 0.4, (1, 60))
        values = seed_effect + item_effect + rng.normal(0, 0.5, (4, 60))
        means.append(values.mean())
        parts.append(variance_parts(values))
    assert np.var(means) == pytest.approx(np.mean([sum(part) for part in parts]), rel=0.2)


@pytest.mark.parametrize("margin", [-0.01, float("nan"), float("inf"), 2])
def test_margin(margin):
    with pytest.raises(InputError, match="equivalence margin"):
        gain_survival([0, 1], [0, 1], [0, 1], [0, 1], margin=margin)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0, 1], [0, 1, 1], [0, 1], [0, 1]), "base_ref has the shape"),
        (([0, 1], [0, 1], [0, 1], [0, 1, 1]), "base_q has the shape"),
        (([0, 1], [0, 1], [0, 1, 1], [0, 1, 1]), "training seeds × items"),
        (([0, 1], [[0, 1], [0, 1]], [0, 1], [0, 1]), "training seeds × items"),
        (([1], [1], [1], [1]), "at least two"),
        (([[0, 1]], [0, 1], [0, 1], [0, 1]), "base_ref has the shape"),
        (([0, 3], [0, 1], [0, 1], [0, 1]), "base_ref holds 1 values"),
        (([0, 1], [0, 1], [0, 1], [0, float("nan")]), "trained_q holds 1 values"),
    ],
)
def test_arrays_that_do_not_fit(arrays, message):
    with pytest.raises(InputError, match=message):
        gain_survival(*arrays, margin=0.02)

"""The distance and its null: by hand, by brute force, and the properties that hold for any data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gainwatt.heads.tv import NULL_BINS, histogram_differences, permute


def sides(n, tokens, heads, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    first = [rng.normal(shift, 1, (tokens + i % 3, heads)).astype(np.float32) for i in range(n)]
    second = [rng.normal(0, 1, (tokens + i % 3, heads)).astype(np.float32) for i in range(n)]
    return first, second


def test_by_hand():
    first = [np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])]
    second = [np.array([[2.0], [3.0]]), np.array([[0.0], [3.0]])]
    # Pooled, each side of a pair counting the same: 0 0 0 1 1 2 3 3; the median is 1, at most it: the lower bin.
    differences = histogram_differences(first, second, 2)
    assert differences[:, 0].tolist() == [[1.0, -1.0], [0.5, -0.5]]
    found = permute(differences, permutations=500, seed=0)
    assert found["tv"].tolist() == [0.75]
    assert found["exact"]
    # Labels swapped in neither or both pairs: 0.75; in one: 0.25.
    assert found["p"].tolist() == [0.5]
    assert found["null_mean"].tolist() == [0.5]
    # Either pair is held out from a witness that the other one chose: 1.0 and 0.5.
    assert found["crossfit"].tolist() == pytest.approx([0.75])
    assert found["null_counts"].sum() == 2


def test_bins_are_shared_and_no_outlier_stretches_them():
    first, second = sides(6, 30, 2, 0)
    before = histogram_differences(first, second, 5)
    first[0] = np.concatenate([first[0], [[1e6, 1e6]]])
    after = histogram_differences(first, second, 5)
    assert np.abs(after - before).max() < 0.15
    assert np.allclose(before.sum(axis=2), 0)


def test_prompts_count_the_same_whatever_their_length():
    short, long = np.array([[0.0]]), np.zeros((1000, 1))
    other = np.ones((3, 1))
    found = histogram_differences([short, long], [other, other], 2)
    assert found[:, 0].tolist() == [[1.0, -1.0], [1.0, -1.0]]


def test_the_null_of_few_pairs_is_every_relabelling():
    first, second = sides(6, 12, 3, 3, shift=0.4)
    differences = histogram_differences(first, second, 4)
    found = permute(differences, permutations=64, seed=0)
    everything = np.array(
        [
            0.5 * np.abs((np.array(signs)[:, None, None] * differences).sum(axis=0)).sum(axis=1) / 6
            for signs in itertools.product((1, -1), repeat=6)
        ]
    )
    assert found["exact"]
    assert found["p_floor"] == 1 / 32
    np.testing.assert_allclose(found["p"], (everything >= found["tv"] - 1e-12).mean(axis=0))
    np.testing.assert_allclose(found["null_mean"], everything.mean(axis=0))


def test_drawn_relabellings_agree_with_all_of_them():
    first, second = sides(12, 10, 4, 5, shift=0.3)
    differences = histogram_differences(first, second, 4)
    exact = permute(differences, permutations=5000, seed=0)
    drawn = permute(differences, permutations=2000, seed=1)
    assert exact["exact"]
    assert not drawn["exact"]
    np.testing.assert_allclose(exact["p"], drawn["p"], atol=0.04)
    assert drawn["p_floor"] == 1 / 2001
    assert (drawn["p_family"] >= drawn["p"] - 0.02).all()


@settings(max_examples=25)
@given(
    n=st.integers(3, 8), tokens=st.integers(1, 9), bins=st.integers(2, 6), seed=st.integers(0, 99),
    shift=st.sampled_from([0.0, 0.5, 9.0]),
)  # fmt: skip
def test_what_holds_for_any_data(n, tokens, bins, seed, shift):
    first, second = sides(n, tokens, 2, seed, shift)
    differences = histogram_differences(first, second, bins)
    found = permute(differences, permutations=200, seed=0)
    assert ((found["tv"] >= 0) & (found["tv"] <= 1 + 1e-9)).all()
    assert (found["crossfit"] <= found["tv"] + 1e-9).all()
    assert (found["stderr"] >= 0).all()
    assert ((found["p"] > 0) & (found["p"] <= found["q"] + 1e-12) & (found["q"] <= 1)).all()
    assert (found["p"] >= found["p_floor"] - 1e-12).all()
    assert found["null_counts"].shape == (NULL_BINS,)
    # A swap of both sides is one of the relabellings: nothing changes.
    other = permute(histogram_differences(second, first, bins), permutations=200, seed=0)
    np.testing.assert_allclose(found["tv"], other["tv"])
    np.testing.assert_allclose(found["crossfit"], other["crossfit"], atol=1e-12)
    # Nor with any increasing function of the values: the bins are quantiles.
    cubed = [[values.astype(np.float64) ** 3 for values in side] for side in (first, second)]
    cubes = permute(histogram_differences(*cubed, bins), permutations=200, seed=0)
    np.testing.assert_allclose(found["tv"], cubes["tv"])


def test_heads_that_cannot_differ_have_p_one():
    same = [np.zeros((5, 1)) for _ in range(6)]
    found = permute(histogram_differences(same, same, 4), permutations=200, seed=0)
    assert (found["tv"].item(), found["p"].item(), found["q"].item(), found["p_family"].item()) == (0, 1, 1, 1)


def test_false_discoveries_stay_within_the_rate():
    """40 studies of 60 correlated heads without any difference: at most 5 % may find one, up to chance (3.2 sd)."""
    rng = np.random.default_rng(7)
    wrong = 0
    for study in range(40):
        common = rng.normal(size=(2, 10, 8, 1))
        own = rng.normal(size=(2, 10, 8, 60)) + rng.normal(size=(2, 10, 1, 60))  # tokens of a prompt go together
        values = common + own
        differences = histogram_differences(list(values[0]), list(values[1]), 6)
        wrong += bool((permute(differences, permutations=999, seed=study)["q"] <= 0.05).any())
    assert wrong <= 6


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_crossfit_is_a_bound_from_below_near_the_truth(shift):
    first, second = sides(200, 20, 1, 1, shift)
    differences = histogram_differences(first, second, 8)
    large = permute(differences, permutations=200, seed=0)
    few = [permute(differences[i : i + 8], permutations=200, seed=0) for i in range(0, 200, 8)]
    truth = large["tv"].item() if shift else 0.0
    assert np.mean([found["tv"].item() for found in few]) > truth
    assert abs(np.mean([found["crossfit"].item() for found in few]) - truth) < 0.03

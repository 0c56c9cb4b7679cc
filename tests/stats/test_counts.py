"""Resamples shared by several columns: exact sums, the moments of the bootstrap, and the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.errors import InputError
from gainwatt.stats.counts import _BLOCK, resampled_sums


def test_every_resample_draws_as_many_items_as_there_are():
    sums = resampled_sums(np.ones((7, 1)), draws=50, seed=3)
    assert sums.shape == (50, 1)
    assert (sums == 7).all()


def test_columns_see_the_same_resamples():
    values = np.arange(12.0)[:, None]
    sums = resampled_sums(np.concatenate([values, 2 * values], axis=1), draws=200, seed=0)
    assert (sums[:, 1] == 2 * sums[:, 0]).all()
    assert (resampled_sums(values, draws=200, seed=0)[:, 0] == sums[:, 0]).all()


def test_fewer_draws_are_the_first_ones_and_another_seed_gives_others():
    values = np.arange(5.0)[:, None]
    many = resampled_sums(values, draws=300, seed=(1, 2))
    assert (resampled_sums(values, draws=100, seed=(1, 2)) == many[:100]).all()
    assert (resampled_sums(values, draws=300, seed=(1, 3)) != many).any()


def test_mean_and_variance_are_those_of_a_sum_of_draws():
    values = np.random.default_rng(0).normal(2, 3, (400, 1))
    sums = resampled_sums(values, draws=20_000, seed=0)[:, 0]
    assert sums.mean() == pytest.approx(values.sum(), rel=0.01)
    assert sums.std() == pytest.approx(np.sqrt(400) * values.std(), rel=0.03)


def test_more_items_than_a_block_holds():
    items = _BLOCK + 5
    assert resampled_sums(np.ones((items, 1), dtype=np.float32), draws=2, seed=0).tolist() == [[items], [items]]


def test_no_draws():
    with pytest.raises(InputError, match="0 bootstrap draws"):
        resampled_sums(np.ones((2, 1)), draws=0, seed=0)

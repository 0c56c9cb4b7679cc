"""The bootstrap of a mean over items and, where there are several, over training seeds."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gainwatt.errors import InputError
from gainwatt.stats.counts import resampled_sums
from gainwatt.stats.intervals import Interval, two_sided_z

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


def binary(values: ArrayLike, name: str) -> NDArray[np.int8]:
    """Return 0/1 (or boolean) `values` as int8 of the same shape.

    Raises InputError, naming the array, where it is empty, ragged, of more than two axes, or holds anything else.
    """
    import numpy as np

    if isinstance(values, np.ndarray) and values.dtype == bool and values.ndim in (1, 2) and values.size:
        return values.astype(np.int8)
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is no array of numbers: {error}", "give 0 and 1 per item, all rows of one length"
        ) from error
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(f"{name} has the shape {array.shape}", "give items, or training seeds × items, at least one")
    wrong = ~np.isin(array, (0.0, 1.0))
    if wrong.any():
        raise InputError(
            f"{name} holds {int(wrong.sum())} values that are neither 0 nor 1, the first {array[wrong][0]}",
            "an item that was not scored cannot be compared: score it again, or drop it from every cell",
        )
    return array.astype(np.int8)


def bootstrap_means(values: NDArray[Any], *, draws: int, seed: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Bootstrap draws, shape (draws,), of the mean of `values`, shape (items,) or (training seeds, items).

    Items are drawn with replacement (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993), and with two or
    more training seeds these as well, independently (the two-way "pigeonhole" bootstrap of A. B. Owen, Annals of
    Applied Statistics 1 (2007) 386-411). It errs on the wide side: noise that belongs to one item under one training
    seed counts up to three times (Owen), so that intervals over three seeds and 500 items
    hold 96 to 99 % (`benchmarks/coverage.py --training-seeds 3`). Two corrections for small samples:

    - One item of +1 and one of −1 are added, as Bonett & Price (J. Educ. Behav. Stat. 37 (2012) 479-488) do for
      paired shares; without them a handful of items that all agree would have an interval of width zero.
    - The draw of S seeds is stretched about its mean by √(S/(S−1)) (Rao & Wu, JASA 83 (1988) 231-241); without it
      three seeds would show only two thirds of their variance.

    `values` are small integers. With one training seed, items of the same value are drawn as one multinomial count, so
    that the work does not grow with their number; with several, cells share their resamples (`counts.resampled_sums`).
    """
    import numpy as np

    if draws < 1:
        raise InputError(f"{draws} bootstrap draws were asked for", "give at least 1,000")
    rows = np.atleast_2d(values)
    seeds, items = rows.shape
    if seeds == 1:
        return _single(*_tally(rows[0]), draws, seed)
    with_extremes = np.concatenate([rows, np.ones((seeds, 1)), -np.ones((seeds, 1))], axis=1)
    # In float32 sums of small integers are exact, so that no order of summation changes a bit.
    means = resampled_sums(with_extremes.T.astype(np.float32), draws=draws, seed=seed).astype(float) / (items + 2)
    return np.asarray((_seed_weights(seeds, draws, seed if isinstance(seed, tuple) else (seed,)) * means).sum(axis=1))


def bootstrap_interval(values: NDArray[Any], *, draws: int, seed: int | tuple[int, ...], confidence: float) -> Interval:
    """The percentile interval of `bootstrap_means` of the values of one training seed, shape (items,).

    It depends on nothing but how often each value occurs, and is worked out once for each such count.
    """
    return _interval(*_tally(values), draws, seed, confidence)


@lru_cache(maxsize=2**16)
def _interval(
    patterns: tuple[float, ...], counts: tuple[int, ...], draws: int, seed: int | tuple[int, ...], confidence: float
) -> Interval:
    if draws < 1:
        raise InputError(f"{draws} bootstrap draws were asked for", "give at least 1,000")
    return percentile_interval(_single(patterns, counts, draws, seed), confidence)


def _tally(values: NDArray[Any]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Each value of one training seed and how often it occurs, with one item of +1 and one of −1 added."""
    import numpy as np

    patterns, counts = np.unique(np.concatenate([values, [1.0, -1.0]]), return_counts=True)
    return tuple(patterns.tolist()), tuple(counts.tolist())


@lru_cache(maxsize=1)
def _seed_weights(seeds: int, draws: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Weight of each training seed in each draw, shape (draws, seeds); not to be written to."""
    import numpy as np

    weights = np.random.default_rng((*seed, draws, seeds)).multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    weights = 1 / seeds + (weights / seeds - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
    weights.setflags(write=False)
    return np.asarray(weights)


@lru_cache(maxsize=64)
def _single(
    patterns: tuple[float, ...], counts: tuple[int, ...], draws: int, seed: int | tuple[int, ...]
) -> NDArray[np.float64]:
    """Draws of the mean of values that take few patterns, each `counts` times; not to be written to."""
    import numpy as np

    total = sum(counts)
    drawn = np.random.default_rng(seed).multinomial(total, np.array(counts) / total, size=draws)
    means = drawn @ np.array(patterns) / total
    means.setflags(write=False)
    return np.asarray(means)


def percentile_interval(drawn: NDArray[np.float64], confidence: float) -> Interval:
    """The central `confidence` share of bootstrap draws, with interpolated percentiles.

    Source: the percentile interval of Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    import numpy as np

    two_sided_z(confidence)  # refuses a confidence outside (0, 1)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))

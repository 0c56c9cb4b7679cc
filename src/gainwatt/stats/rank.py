"""Rank correlation, and its interval from resampled units."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gainwatt.stats.intervals import Interval
from gainwatt.stats.student import mean_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_NEARLY_ONE = 1 - 1e-6


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None where one side does not vary."""
    import numpy as np

    one, two = (_ranks(np.asarray(values, dtype=float)) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    scale = math.sqrt(float((one * one).sum()) * float((two * two).sum()))
    return float((one * two).sum()) / scale if scale else None


def correlation_interval(
    statistic: Callable[[NDArray[Any]], float | None], n: int, *, confidence: float, draws: int, seed: int
) -> Interval | None:
    """Interval of a correlation whose noise comes from `n` units.

    `statistic` gives it from the indices of the units that count, repeated ones included. The standard error is that of
    `draws` bootstrap samples on Fisher's z scale, the interval z ± t · standard error around the estimate itself: a
    resample doubles the noise of what is ranked, so that resampled correlations lie too low, and their percentiles
    with them. (The jackknife would need a smooth statistic; ranks jump.) Source: Efron & Tibshirani, "An Introduction
    to the Bootstrap" (1993), chapters 6 and 12. None where the correlation is undefined.
    """
    import numpy as np

    whole = statistic(np.arange(n))
    if whole is None or n < 3:
        return None
    drawn = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    known = [value for value in (statistic(kept) for kept in drawn) if value is not None]
    if len(known) < 2:
        return None
    stderr = float(np.std([_fisher(value) for value in known], ddof=1))
    interval = mean_interval(_fisher(whole), stderr, n, confidence)
    return Interval(min(whole, math.tanh(interval.low)), max(whole, math.tanh(interval.high)))


def _fisher(correlation: float) -> float:
    """Fisher's z; a correlation of ±1, which a few ranks can have by chance, counts as one just short of it."""
    return math.atanh(max(-_NEARLY_ONE, min(_NEARLY_ONE, correlation)))


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(group, weights=ranks) / count)[group])

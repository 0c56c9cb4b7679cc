"""Rank correlation, and its interval by leaving out one unit at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gainwatt.stats.intervals import Interval
from gainwatt.stats.student import mean_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None where one side does not vary."""
    import numpy as np

    one, two = (_ranks(np.asarray(values, dtype=float)) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    scale = math.sqrt(float((one * one).sum()) * float((two * two).sum()))
    return float((one * two).sum()) / scale if scale else None


def jackknife_correlation(
    statistic: Callable[[NDArray[Any]], float | None], n: int, confidence: float
) -> Interval | None:
    """Interval of a correlation whose noise comes from `n` units.

    `statistic` gives it from the indices of the units that are kept. The standard error is the delete-one jackknife's
    on Fisher's z scale, √((n−1)/n · Σ(z_i − z̄)²). Unlike resamples with repetition, leaving one out adds hardly any
    noise, which would pull a rank correlation towards zero. Source: Efron & Tibshirani, "An Introduction to the
    Bootstrap" (1993), chapter 11. None where the correlation is undefined or ±1.
    """
    import numpy as np

    everything = np.arange(n)
    found = [statistic(everything), *(statistic(np.delete(everything, i)) for i in range(n))]
    known = [value for value in found if value is not None and abs(value) < 1]
    if len(known) < len(found) or n < 3:
        return None
    whole, *left = (math.atanh(value) for value in known)
    centre = sum(left) / n
    stderr = math.sqrt((n - 1) / n * sum((value - centre) ** 2 for value in left))
    interval = mean_interval(whole, stderr, n, confidence)
    return Interval(math.tanh(interval.low), math.tanh(interval.high))


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(group, weights=ranks) / count)[group])

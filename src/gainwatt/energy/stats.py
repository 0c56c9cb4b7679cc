"""Mean, spread and interval of a few repeats, without SciPy."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any table of the distribution), and for
# 40, 60, 120 and infinitely many.
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_T95_FAR = ((30, 2.0423), (40, 2.0211), (60, 2.0003), (120, 1.9799), (math.inf, 1.95996))


def t95(freedom: int) -> float:
    """Half-width of the 95 % interval in standard errors; interpolated in 1/freedom above 30."""
    if freedom < 1:
        raise ValueError(f"an interval needs at least two values, so one degree of freedom; got {freedom}")
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    for (low, high_t), (high, low_t) in itertools.pairwise(_T95_FAR):
        if freedom <= high:
            share = (1 / low - 1 / freedom) / (1 / low - 1 / high)
            return high_t + (low_t - high_t) * share
    return _T95_FAR[-1][1]


@dataclass(frozen=True)
class Spread:
    """Repeats of one quantity. `sd` is the sample standard deviation, `cv` = sd / mean, `low`/`high` the 95 % interval.

    None where there are too few values (sd, cv and interval need two) or the mean is zero (cv).
    """

    n: int
    mean: float | None
    sd: float | None
    cv: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Describe `values`; the interval is mean ± t · sd / √n."""
    n = len(values)
    if n == 0:
        return Spread(0, None, None, None, None, None)
    mean = statistics.fmean(values)
    if n == 1:
        return Spread(1, mean, None, None, None, None)
    sd = statistics.stdev(values)
    half = t95(n - 1) * sd / math.sqrt(n)
    return Spread(n, mean, sd, sd / abs(mean) if mean else None, mean - half, mean + half)

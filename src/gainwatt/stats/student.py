"""Student's t: the interval of a mean of few values at any confidence, without SciPy."""

from __future__ import annotations

import math

from gainwatt.errors import InputError
from gainwatt.stats.intervals import Interval, two_sided_z


def two_sided_t(confidence: float, freedom: int) -> float:
    """The quantile of Student's t that a two-sided interval needs (2.042 for 0.95 and 30 degrees of freedom).

    Exact for 1 and 2 degrees of freedom, else found on the distribution function by bisection; that one is a finite
    sum. Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4. Raises InputError
    for a confidence outside (0, 1) or `freedom` < 1.
    """
    low, high = 0.0, 2.0 * two_sided_z(confidence) + 1.0
    if freedom < 1:
        raise InputError(f"an interval of {freedom + 1} value(s) was asked for", "give at least two values")
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def mean_interval(mean: float, stderr: float, n: int, confidence: float) -> Interval:
    """mean ± t · stderr, with n − 1 degrees of freedom."""
    half = two_sided_t(confidence, n - 1) * stderr
    return Interval(mean - half, mean + half)


def _within(t: float, freedom: int) -> float:
    """Probability that |T| < t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    if freedom == 1:
        return 2 * angle / math.pi
    odd = freedom % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total

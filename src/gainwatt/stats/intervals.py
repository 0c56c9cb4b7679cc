"""Confidence intervals of a share, and the checks that every interval needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from gainwatt.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A confidence interval; the ends belong to it."""

    low: float
    high: float

    def above(self, value: float) -> bool:
        """Whether the whole interval lies above `value`."""
        return self.low > value

    def below(self, value: float) -> bool:
        """Whether the whole interval lies below `value`."""
        return self.high < value


def two_sided_z(confidence: float) -> float:
    """The normal quantile of a two-sided interval (1.96 for 0.95). Raises InputError outside (0, 1)."""
    if not 0 < confidence < 1:
        raise InputError(f"the confidence is {confidence}", "give a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of the share `correct` / `n`.

    Centre (p + z²/2n) / (1 + z²/n), half-width z/(1 + z²/n) · √(p(1−p)/n + z²/4n²). Source: E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212. Raises InputError where
    n < 1 or `correct` is not between 0 and `n`.
    """
    if n < 1 or not 0 <= correct <= n:
        raise InputError(f"no share has {correct} correct of {n} items", "0 <= correct <= n and n >= 1 must hold")
    z = two_sided_z(confidence)
    share, shrink = correct / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives exactly 0 and 1 but for rounding.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return Interval(low, high)

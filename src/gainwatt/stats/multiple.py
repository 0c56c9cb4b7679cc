"""Several comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence

from gainwatt.errors import InputError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of `p_values`, in their order.

    The k-th smallest of m is multiplied by m − k + 1, made no smaller than the ones before it and no larger than 1.
    An adjusted value below α is significant with a family-wise error of at most α, whatever the dependence. Source:
    S. Holm, Scand. J. Statist. 6 (1979) 65-70. Raises InputError for values outside [0, 1].
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise InputError(f"{value} is no p-value", "leave out comparisons that have none")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's step-up adjustment of `p_values` (their q-values), in their order.

    The k-th smallest of m is multiplied by m / k, and made no larger than those after it. Calling significant what has
    an adjusted value of at most α keeps the expected share of false ones among them at α for independent or positively
    dependent tests. Source: Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289-300. Raises InputError for
    values outside [0, 1].
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise InputError(f"{value} is no p-value", "leave out comparisons that have none")
    adjusted = [0.0] * len(p_values)
    lowest = 1.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    for place, index in enumerate(order):
        lowest = min(lowest, p_values[index] * len(p_values) / (len(p_values) - place))
        adjusted[index] = lowest
    return adjusted

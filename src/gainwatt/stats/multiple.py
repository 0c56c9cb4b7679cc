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

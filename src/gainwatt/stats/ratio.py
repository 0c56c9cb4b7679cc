"""A ratio of two sums over the same items, such as tokens per correct answer or nats per token, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gainwatt.errors import InputError
from gainwatt.stats.counts import resampled_sums
from gainwatt.stats.intervals import two_sided_z

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Ratio:
    """`estimate` = sum of the numerators / sum of the denominators, and a percentile interval.

    `estimate` is None where the denominators sum to zero. `high` is None where so many resamples have a denominator
    of zero that the upper percentile is one of them; `low` likewise. `reason` says so.
    """

    estimate: float | None
    low: float | None
    high: float | None
    reason: str | None = None


_NO_DENOMINATOR = Ratio(None, None, None, "the denominator is zero for every item")


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    draws: int = 10_000,
    confidence: float = 0.95,
    seed: int | tuple[int, ...] = 0,
) -> Ratio:
    """Ratio of sums over items, both of shape (items,), with the percentile bootstrap over items.

    Numerator and denominator of an item are drawn together, so that their correlation counts. Source: Efron &
    Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentiles) and section 10.3 (a ratio).
    Raises InputError for arrays of different length, empty ones, a negative denominator, or values that are not finite.
    """
    pair = _checked(numerator, denominator)
    above, below = (float(total) for total in pair.sum(axis=0))
    if below == 0:
        return _NO_DENOMINATOR
    sums = resampled_sums(pair, draws=draws, seed=seed)
    return resampled_ratio(above, below, sums[:, 0], sums[:, 1], confidence=confidence)


def resampled_ratio(
    above: float, below: float, drawn_above: NDArray[Any], drawn_below: NDArray[Any], *, confidence: float
) -> Ratio:
    """The ratio above / below with the interval from the same two sums in each resample, both of shape (draws,)."""
    import numpy as np

    two_sided_z(confidence)  # refuses a confidence outside (0, 1)
    if below == 0:
        return _NO_DENOMINATOR
    usable = drawn_below > 0
    if usable.all():
        drawn = drawn_above / drawn_below
    else:
        drawn = np.full(len(drawn_above), np.inf)
        drawn[usable] = drawn_above[usable] / drawn_below[usable]
    # Infinite draws are ordered like any other; a percentile between two of them must not become inf - inf.
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], method="higher")
    reason = None
    if not np.isfinite(high):
        reason = f"the denominator is zero in {float(1 - usable.mean()):.1%} of the resamples"
    return Ratio(above / below, _finite(low), _finite(high), reason)


def _checked(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    above, below = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    if above.ndim != 1 or above.shape != below.shape or above.size == 0:
        raise InputError(
            f"a ratio needs one numerator and one denominator per item, not {above.shape} and {below.shape}",
            "give two lists of one length, at least one item",
        )
    pair = np.stack([above, below], axis=1)
    if not np.isfinite(pair).all() or (below < 0).any():
        raise InputError(
            "a ratio was given a value that is not finite, or a negative denominator",
            "leave such items out, and say so",
        )
    return pair


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

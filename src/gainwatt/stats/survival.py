"""Does a gain survive quantization: a paired difference in differences over the same items.

Per item and training seed the survival is (trained_q − base_q) − (trained_ref − base_ref), and its mean is the
estimate. It stays paired on items and on training seeds. Its interval, and those of the two gains, are percentile
bootstraps over items, and over training seeds where there are several (`resample.bootstrap_means`). With one training
seed every statement is about that one checkpoint; with two or three, percentiles still tend to be too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gainwatt.errors import InputError
from gainwatt.stats.intervals import Interval
from gainwatt.stats.paired import sign_flip_exact
from gainwatt.stats.resample import binary, bootstrap_interval, bootstrap_means, percentile_interval
from gainwatt.stats.verdict import Verdict, decide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_ONE_SEED = "one training seed: how much other seeds would differ cannot be estimated, and no interval includes it"


@dataclass(frozen=True)
class Survival:
    """How much of a gain survives; shares of items, so 0.01 is one percentage point.

    `survival` = `delta_q` − `delta_ref` with the interval `low` … `high`. `item_variance` and `seed_variance` are the
    two parts of the variance of `survival`, so the root of their sum is its standard error; `seed_variance` is None,
    with the reason beside it, for one training seed. `per_seed` holds each training seed's survival. `p_value` tests
    a survival of zero; `p_method` says how.
    """

    delta_ref: float
    delta_q: float
    survival: float
    low: float
    high: float
    verdict: Verdict
    why: str
    delta_ref_interval: Interval
    delta_q_interval: Interval
    margin: float
    confidence: float
    n_items: int
    n_seeds: int
    per_seed: tuple[float, ...]
    item_variance: float
    seed_variance: float | None
    seed_variance_reason: str | None
    p_value: float
    p_method: str
    draws: int
    seed: int


def gain_survival(
    base_ref: ArrayLike,
    trained_ref: ArrayLike,
    base_q: ArrayLike,
    trained_q: ArrayLike,
    *,
    margin: float,
    draws: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Survival:
    """Compare the gain of training at the reference precision with the gain that is left after quantization.

    All arrays hold 0/1 scores over the same items in the same order. `base_*` have shape (items,); `trained_*` have
    shape (items,) or (training seeds, items), with the same training seeds in both. The verdict: survives where the
    whole interval of the survival lies above −margin, reduced where it lies below zero, erased where besides the
    gain that is left is not clear of zero and clearly less than half, undecided otherwise; `gainwatt.stats.verdict`
    has the rules in full.

    Raises InputError for shapes that do not fit, values other than 0 and 1, fewer than two items, or a margin that
    is not between 0 and 1.
    """
    ref, quantized = _checked_gains(base_ref, trained_ref, base_q, trained_q, margin)
    contrasts = (ref, quantized, quantized - ref)
    if len(ref) == 1:
        intervals = [
            bootstrap_interval(values[0], draws=draws, seed=(seed, stream), confidence=confidence)
            for stream, values in enumerate(contrasts)
        ]
        test = sign_flip_exact(contrasts[2][0]), "exact sign-flip test over items"
    else:
        # The same resamples for all three, which are costly to draw.
        drawn = [bootstrap_means(values, draws=draws, seed=(seed, 0)) for values in contrasts]
        intervals = [percentile_interval(means, confidence) for means in drawn]
        test = _p_value(drawn[2]), "bootstrap over training seeds and items"
    return _summary(contrasts, intervals, test, margin=margin, confidence=confidence, draws=draws, seed=seed)


def _summary(
    contrasts: tuple[NDArray[np.int8], ...],
    intervals: list[Interval],
    test: tuple[float, str],
    *,
    margin: float,
    confidence: float,
    **settings: int,
) -> Survival:
    delta_ref, delta_q, survival = (float(values.mean()) for values in contrasts)
    ref, quantized, left = intervals
    verdict, why = decide(delta_ref=delta_ref, ref=ref, quantized=quantized, survival=left, margin=margin)
    item_variance, seed_variance = variance_parts(contrasts[2])
    p_value, p_method = test
    return Survival(
        delta_ref=delta_ref,
        delta_q=delta_q,
        survival=survival,
        low=left.low,
        high=left.high,
        verdict=verdict,
        why=why,
        delta_ref_interval=ref,
        delta_q_interval=quantized,
        margin=margin,
        confidence=confidence,
        n_items=contrasts[2].shape[1],
        n_seeds=contrasts[2].shape[0],
        per_seed=tuple(float(mean) for mean in contrasts[2].mean(axis=1)),
        item_variance=item_variance,
        seed_variance=seed_variance,
        seed_variance_reason=_ONE_SEED if seed_variance is None else None,
        p_value=p_value,
        p_method=p_method,
        **settings,
    )


def variance_parts(values: NDArray[Any]) -> tuple[float, float | None]:
    """Split the variance of the mean of `values`, shape (training seeds, items), into items and training seeds.

    Items: the sample variance of the items' means over seeds, divided by the number of items; it holds what any
    training seeds share, and the part of their disagreement that more items would average out. Training seeds: the
    component (MS_seed − MS_residual) / items of the two-way random-effects layout with one value per cell, never
    below zero, divided by the number of seeds; None for one seed. Source: Searle, Casella & McCulloch, "Variance
    Components" (1992), analysis-of-variance estimators. Needs two items or more.
    """
    seeds, items = values.shape
    item_means = values.mean(axis=0)
    item_part = float(item_means.var(ddof=1)) / items
    if seeds == 1:
        return item_part, None
    seed_means = values.mean(axis=1)
    residual = values - seed_means[:, None] - item_means[None, :] + values.mean()
    ms_residual = float((residual**2).sum()) / ((seeds - 1) * (items - 1))
    ms_seed = items * float(seed_means.var(ddof=1))
    return item_part, max(0.0, (ms_seed - ms_residual) / items) / seeds


def _checked_gains(
    base_ref: ArrayLike, trained_ref: ArrayLike, base_q: ArrayLike, trained_q: ArrayLike, margin: float
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    if not (math.isfinite(margin) and 0 <= margin <= 1):
        raise InputError(f"the equivalence margin is {margin}", "give a share of items between 0 and 1, such as 0.02")
    ref, quantized = gains(base_ref, trained_ref, "ref"), gains(base_q, trained_q, "q")
    if ref.shape != quantized.shape or ref.shape[1] < 2:
        raise InputError(
            f"the reference has {ref.shape} training seeds × items, the quantized cells {quantized.shape}",
            "score all four cells on the same items (at least two), and the same training seeds in both",
        )
    return ref, quantized


def gains(base: ArrayLike, trained: ArrayLike, name: str) -> NDArray[np.int8]:
    """trained − base per training seed and item, shape (training seeds, items)."""
    import numpy as np

    before, after = binary(base, f"base_{name}"), np.atleast_2d(binary(trained, f"trained_{name}"))
    if before.ndim != 1 or after.shape[1] != before.size:
        raise InputError(
            f"base_{name} has the shape {before.shape} and trained_{name} {after.shape}",
            "score both on the same items; base has one score per item, trained one per training seed and item",
        )
    return np.asarray(after - before[None, :], dtype=np.int8)


def _p_value(drawn: NDArray[np.float64]) -> float:
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (drawn.size + 1))

"""What published counts of right answers can say when the answers to single items were not published."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gainwatt.errors import InputError
from gainwatt.stats.intervals import Interval, two_sided_z
from gainwatt.stats.paired import mcnemar_exact
from gainwatt.stats.power import contrast_items, unpaired_items
from gainwatt.stats.verdict import Verdict, decide

PUBLISHED = {"fp16": (68, 72), "nf4": (65, 68), "awq": (58, 67)}
"""Right answers of base and GRPO-trained model out of 100 GSM8K questions, the unquantized scheme first.

Source: the accuracy table in the README of github.com/JiamingPan/posttrain-quant-serve.
"""

ASSUMPTION = (
    "The four counts are treated as independent, because the single items were not published. All four cells answered "
    "the same questions, so the true standard errors may well be smaller; only paired results could tell."
)


@dataclass(frozen=True)
class UnpairedSurvival:
    """Gains and survival of four counts under independence, with what they show and do not show in words.

    `best_case_p_*` is the smallest p-value that an exact paired test could reach, whatever the single items are.
    `items_needed_per_arm` is for the reference gain, `items_needed_within_margin` for a survival interval wholly above
    −margin; both take the observed effect for the true one and the counts as independent; None: no number would do.
    """

    delta_ref: float
    delta_ref_se: float
    delta_ref_interval: Interval
    delta_q: float
    delta_q_se: float
    delta_q_interval: Interval
    survival: float
    survival_se: float
    survival_interval: Interval
    items_needed_per_arm: int | None
    items_needed_within_margin: int | None
    best_case_p_gain: float
    best_case_p_survival: float
    verdict: Verdict
    why: str
    margin: float
    shows: str
    does_not_show: str
    assumption: str = ASSUMPTION


def unpaired_survival(
    base_ref: int,
    trained_ref: int,
    base_q: int,
    trained_q: int,
    *,
    n: int,
    margin: float = 0.02,
    confidence: float = 0.95,
) -> UnpairedSurvival:
    """Gains and gain survival of four counts of right answers out of `n`, as if the four were independent.

    A share p has the variance p(1−p)/n, and variances add up over the two shares of a gain and the four of the
    survival; the intervals are estimate ± z·SE (Wald; Agresti, "Categorical Data Analysis"). The verdict follows the
    rules of `gainwatt.stats.verdict`. With a difference of k answers the exact paired tests reach their smallest
    p-value, 2^(1−k), where exactly k items changed, all the same way. Raises InputError for counts outside 0 … n or a
    margin outside 0 … 1.
    """
    counts = (base_ref, trained_ref, base_q, trained_q)
    if n < 1 or not all(0 <= count <= n for count in counts):
        raise InputError(f"the counts {counts} are not counts out of {n} items", "each must lie between 0 and n")
    if not 0 <= margin <= 1:
        raise InputError(f"the equivalence margin is {margin}", "give a share of items between 0 and 1, such as 0.02")
    shares = [count / n for count in counts]
    variances = [share * (1 - share) / n for share in shares]
    # Differences of counts first: exact integers, so that equal gains give a survival of exactly zero.
    changes = (trained_ref - base_ref, trained_q - base_q, trained_q - base_q - trained_ref + base_ref)
    gains = [change / n for change in changes]
    errors = (math.sqrt(sum(variances[:2])), math.sqrt(sum(variances[2:])), math.sqrt(sum(variances)))
    z = two_sided_z(confidence)
    ref, quantized, left = (Interval(g - z * e, g + z * e) for g, e in zip(gains, errors, strict=True))
    verdict, why = decide(delta_ref=gains[0], ref=ref, quantized=quantized, survival=left, margin=margin)
    needed = None if changes[0] == 0 else unpaired_items(shares[0], shares[1], confidence=confidence)
    best = [mcnemar_exact(abs(change), 0) for change in changes]
    named = (("reference gain", gains[0], errors[0], ref), ("survival", gains[2], errors[2], left))
    return UnpairedSurvival(
        delta_ref=gains[0],
        delta_ref_se=errors[0],
        delta_ref_interval=ref,
        delta_q=gains[1],
        delta_q_se=errors[1],
        delta_q_interval=quantized,
        survival=gains[2],
        survival_se=errors[2],
        survival_interval=left,
        items_needed_per_arm=needed,
        items_needed_within_margin=_within(gains[2] + margin, errors[2] * math.sqrt(n), confidence),
        best_case_p_gain=best[0],
        best_case_p_survival=best[2],
        verdict=verdict,
        why=why,
        margin=margin,
        shows=" ".join(_measured(*entry, confidence) for entry in named),
        does_not_show=_missing(ref, left, gains[0], needed, n) + _pairing(best[0], best[2], 1 - confidence),
    )


def _within(distance: float, deviation: float, confidence: float) -> int | None:
    if distance <= 0 or deviation == 0:
        return None
    return contrast_items(distance, deviation, confidence=confidence)


def _pairing(gain: float, survival: float, alpha: float) -> str:
    """What no pairing of the items could change."""
    named = [("the gain", gain), ("the survival", survival)]
    out = [f"{name} (p ≥ {p:.2g})" for name, p in named if p > alpha]
    if not out:
        return ""
    return f" However the single items fell, no exact paired test could tell {' or '.join(out)} from zero."


def _measured(name: str, estimate: float, error: float, interval: Interval, confidence: float) -> str:
    return (
        f"The {name} is {100 * estimate:+.1f} points with a standard error of {100 * error:.1f} "
        f"({100 * confidence:g} % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f})."
    )


def _missing(ref: Interval, survival: Interval, gain: float, needed: int | None, n: int) -> str:
    parts = []
    if ref.low <= 0 <= ref.high:
        parts.append("The counts do not show that training changed the accuracy at the reference precision.")
        if needed is not None:
            parts.append(
                f"A change of {100 * abs(gain):.1f} points needs about {needed} items per arm at 80 % power; "
                f"there were {n}."
            )
    if survival.low <= 0 <= survival.high:
        parts.append(
            "They show neither that quantization took part of a gain nor that it took none: survivals from "
            f"{100 * survival.low:+.1f} to {100 * survival.high:+.1f} points all agree with them."
        )
    return " ".join(parts) or "They do not show how other training seeds or other items would come out."

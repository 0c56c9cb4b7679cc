"""What published counts of right answers can say when the answers to single items were not published."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gainwatt.errors import InputError
from gainwatt.stats.intervals import Interval, two_sided_z
from gainwatt.stats.power import unpaired_items

ASSUMPTION = (
    "The four counts are treated as independent, because the single items were not published. All four cells answered "
    "the same questions, so the true standard errors may well be smaller; only paired results could tell."
)


@dataclass(frozen=True)
class UnpairedSurvival:
    """Gains and survival of four counts under independence, with what they show and do not show in words."""

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
    shows: str
    does_not_show: str
    assumption: str = ASSUMPTION


def unpaired_survival(
    base_ref: int, trained_ref: int, base_q: int, trained_q: int, *, n: int, confidence: float = 0.95
) -> UnpairedSurvival:
    """Gains and gain survival of four counts of right answers out of `n`, as if the four were independent.

    A share p has the variance p(1−p)/n, and variances add up over the two shares of a gain and the four of the
    survival; the intervals are estimate ± z·SE (Wald). `items_needed_per_arm` is what a reference gain of the
    observed size needs at 80 % power, None where there is no gain. Raises InputError for counts outside 0 … n.
    """
    counts = (base_ref, trained_ref, base_q, trained_q)
    if n < 1 or not all(0 <= count <= n for count in counts):
        raise InputError(f"the counts {counts} are not counts out of {n} items", "each must lie between 0 and n")
    z = two_sided_z(confidence)
    shares = [count / n for count in counts]
    variances = [share * (1 - share) / n for share in shares]
    # Differences of counts first: exact integers, so that equal gains give a survival of exactly zero.
    gains = ((trained_ref - base_ref) / n, (trained_q - base_q) / n, (trained_q - base_q - trained_ref + base_ref) / n)
    errors = (math.sqrt(sum(variances[:2])), math.sqrt(sum(variances[2:])), math.sqrt(sum(variances)))
    ref, quantized, survival = (
        Interval(gain - z * error, gain + z * error) for gain, error in zip(gains, errors, strict=True)
    )
    needed = None if base_ref == trained_ref else unpaired_items(shares[0], shares[1], confidence=confidence)
    named = (("reference gain", gains[0], errors[0], ref), ("survival", gains[2], errors[2], survival))
    return UnpairedSurvival(
        delta_ref=gains[0],
        delta_ref_se=errors[0],
        delta_ref_interval=ref,
        delta_q=gains[1],
        delta_q_se=errors[1],
        delta_q_interval=quantized,
        survival=gains[2],
        survival_se=errors[2],
        survival_interval=survival,
        items_needed_per_arm=needed,
        shows=" ".join(_measured(*entry, confidence) for entry in named),
        does_not_show=_missing(ref, survival, gains[0], needed, n),
    )


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

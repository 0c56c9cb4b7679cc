"""How many items an effect needs to be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

from gainwatt.errors import InputError
from gainwatt.stats.intervals import two_sided_z
from gainwatt.stats.survival import gains

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class ItemsNeeded:
    """Items that effects of the observed size need; None with its reason in `reasons` where no number would do.

    `unpaired`: the reference gain, each arm on its own items. `paired`: the same gain, both on the same items.
    `survival`: a survival different from zero. `within_margin`: a survival interval wholly above −margin.
    """

    unpaired: int | None
    paired: int | None
    survival: int | None
    within_margin: int | None
    power: float
    confidence: float
    reasons: dict[str, str] = field(default_factory=dict)


def unpaired_items(share_a: float, share_b: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Items per arm that tell two independent shares apart.

    n = (z_{1−α/2} + z_{power})² · (a(1−a) + b(1−b)) / (a − b)². Source: Fleiss, Levin & Paik, "Statistical Methods
    for Rates and Proportions" (2003), in the form without pooling. Raises InputError for equal shares or ones
    outside [0, 1].
    """
    if not (0 <= share_a <= 1 and 0 <= share_b <= 1) or share_a == share_b:
        raise InputError(f"no number of items tells {share_a} from {share_b}", "give two different shares in [0, 1]")
    spread = share_a * (1 - share_a) + share_b * (1 - share_b)
    return max(1, math.ceil(_z_sum(power, confidence) ** 2 * spread / (share_a - share_b) ** 2))


def paired_items(improved: float, worsened: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Items that McNemar's test needs, from the shares of items that improve and that worsen.

    With ψ = improved + worsened and δ = improved − worsened: n = (z_{1−α/2}·√ψ + z_{power}·√(ψ − δ²))² / δ².
    Source: R. J. Connor, Biometrics 43 (1987) 207-211. Raises InputError where both shares are equal (no number of
    items would do) or are no shares of one whole.
    """
    total, difference = improved + worsened, improved - worsened
    if improved < 0 or worsened < 0 or total > 1 or difference == 0:
        raise InputError(
            f"no number of items shows a difference where {improved} improve and {worsened} worsen",
            "give two different shares whose sum is at most 1",
        )
    z_power = NormalDist().inv_cdf(_checked_power(power))
    root = two_sided_z(confidence) * math.sqrt(total) + z_power * math.sqrt(total - difference**2)
    return max(1, math.ceil(root**2 / difference**2))


def contrast_items(distance: float, deviation: float, *, power: float = 0.8, confidence: float = 0.95) -> int:
    """Items that a mean of per-item contrasts needs to be told from a value `distance` away.

    n = ((z_{1−α/2} + z_{power}) · deviation / distance)², the normal approximation for one mean (J. Cohen, "Statistical
    Power Analysis for the Behavioral Sciences", 2nd ed. 1988, chapter 2); `deviation` is the contrast's standard
    deviation over items. Raises InputError for a distance of zero or a negative deviation.
    """
    if distance == 0 or deviation < 0:
        raise InputError(
            f"no number of items shows a distance of {distance} at a deviation of {deviation}",
            "the distance must differ from zero and the deviation cannot be negative",
        )
    return max(1, math.ceil((_z_sum(power, confidence) * deviation / distance) ** 2))


def items_needed(
    base_ref: ArrayLike,
    trained_ref: ArrayLike,
    base_q: ArrayLike,
    trained_q: ArrayLike,
    *,
    margin: float,
    power: float = 0.8,
    confidence: float = 0.95,
) -> ItemsNeeded:
    """How many items the observed effects would need, from the arrays that `gain_survival` takes.

    It treats the observed effect as the true one, so it plans the next run and does not judge this one. Several
    training seeds are averaged as if a run had one; more items do not shrink the variance between seeds. Raises
    InputError as `gain_survival` does.
    """
    ref, quantized = gains(base_ref, trained_ref, "ref"), gains(base_q, trained_q, "q")
    if ref.shape != quantized.shape:
        raise InputError(
            f"the reference has {ref.shape} training seeds × items, the quantized cells {quantized.shape}",
            "score all four cells on the same items, and the same training seeds in both",
        )
    left = quantized - ref
    improved, worsened = float((ref == 1).mean()), float((ref == -1).mean())
    effect, deviation = float(left.mean()), float(left.std())
    reasons = _reasons(improved == worsened, effect, deviation, margin)
    wanted = {"power": power, "confidence": confidence}
    return ItemsNeeded(
        unpaired=None if "unpaired" in reasons else unpaired_items(_mean(base_ref), _mean(trained_ref), **wanted),
        paired=None if "paired" in reasons else paired_items(improved, worsened, **wanted),
        survival=None if "survival" in reasons else contrast_items(effect, deviation, **wanted),
        within_margin=None if "within_margin" in reasons else contrast_items(effect + margin, deviation, **wanted),
        power=power,
        confidence=confidence,
        reasons=reasons,
    )


def _reasons(no_gain: bool, effect: float, deviation: float, margin: float) -> dict[str, str]:
    same = "the observed effect is zero: no number of items would show it"
    constant = "no variation between items: nothing to plan with"
    reasons = {"unpaired": same, "paired": same} if no_gain else {}
    if effect == 0 or deviation == 0:
        reasons["survival"] = same if effect == 0 else constant
    if effect + margin <= 0:
        reasons["within_margin"] = "the observed survival is not above the margin: more items would not lift it"
    elif deviation == 0:
        reasons["within_margin"] = constant
    return reasons


def _mean(values: ArrayLike) -> float:
    import numpy as np

    return float(np.mean(np.asarray(values, dtype=float)))


def _checked_power(power: float) -> float:
    if not 0 < power < 1:
        raise InputError(f"the power is {power}", "give a number between 0 and 1, such as 0.8")
    return power


def _z_sum(power: float, confidence: float) -> float:
    return two_sided_z(confidence) + NormalDist().inv_cdf(_checked_power(power))

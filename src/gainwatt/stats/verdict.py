"""From intervals to a verdict on a gain: survives, reduced, erased or undecided.

The rules, the first that applies:

1. The interval of the reference gain is not wholly above zero: undecided, there is no gain to survive.
2. The interval of the survival lies wholly above −margin, and the margin is smaller than the reference gain:
   survives. (A margin as large as the gain would let a gain that is gone pass; then rules 3 to 5 decide.)
3. The interval of the survival lies wholly below zero, and that of the quantized gain does not lie above zero but
   wholly below half of the reference gain: erased. (Without the last condition small studies would call a gain erased
   of which half is left: `benchmarks/coverage.py`.)
4. The interval of the survival lies wholly below zero: reduced.
5. Otherwise: undecided.

Rule 2 is the confidence-interval form of a non-inferiority test (Schuirmann, J. Pharmacokinet. Biopharm. 15
(1987) 657-680, has the two-sided one). A loss that is real but smaller than the margin survives by it.
"""

from __future__ import annotations

from typing import Literal

from gainwatt.stats.intervals import Interval

Verdict = Literal["survives", "reduced", "erased", "undecided"]


def decide(
    *, delta_ref: float, ref: Interval, quantized: Interval, survival: Interval, margin: float
) -> tuple[Verdict, str]:
    """Decide on a gain by the intervals of the reference gain, the quantized gain and their difference.

    Returns the verdict by the rules above and a sentence that gives its reason in percentage points.
    """
    if not ref.above(0):
        kind = "training lowered the accuracy" if ref.below(0) else "the interval includes zero"
        return "undecided", (
            f"No gain to survive: the reference gain of {_points(delta_ref)} points, {_range(ref)}, "
            f"is not clear of zero ({kind})."
        )
    spread = f"the survival's interval, {_range(survival)} points,"
    if survival.above(-margin) and margin < delta_ref:
        loss = " A loss smaller than the margin is clear of zero." if survival.below(0) else ""
        return "survives", f"{_sentence(spread)} lies wholly above the margin of {_points(-margin)} points.{loss}"
    if survival.below(0):
        return _lost(spread, delta_ref, quantized)
    if survival.above(-margin):
        return "undecided", (
            f"The margin of {100 * margin:.1f} points is not smaller than the reference gain of {_points(delta_ref)} "
            "points, so staying within it proves nothing; declare a smaller margin before the next run."
        )
    return "undecided", (
        f"{_sentence(spread)} reaches below the margin of {_points(-margin)} points and is not wholly below zero: "
        "more items or more training seeds are needed."
    )


def _lost(spread: str, delta_ref: float, quantized: Interval) -> tuple[Verdict, str]:
    """Reduced or erased, once a loss is clear."""
    below = f"{_sentence(spread)} lies wholly below zero, and"
    if quantized.above(0):
        return "reduced", f"{below} a gain of {_range(quantized)} points remains."
    remains = f"{below} the gain that remains, {_range(quantized)} points, is not clear of zero"
    if quantized.below(delta_ref / 2):
        return "erased", f"{remains}: less than half of it can be left."
    return "reduced", f"{remains}; half of it may be left: too few items to call it erased."


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _range(interval: Interval) -> str:
    return f"{_points(interval.low)} to {_points(interval.high)}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]

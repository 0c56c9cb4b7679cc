"""Every rule of the verdict, at its edges."""

from __future__ import annotations

import pytest

from gainwatt.stats.intervals import Interval
from gainwatt.stats.verdict import decide

CLEAR = Interval(0.02, 0.06)


@pytest.mark.parametrize(
    ("ref", "quantized", "survival", "margin", "verdict", "reason"),
    [
        (CLEAR, CLEAR, (-0.01, 0.01), 0.02, "survives", "wholly above the margin of -2.0"),
        (CLEAR, CLEAR, (-0.015, -0.005), 0.02, "survives", "A loss smaller than the margin is clear of zero"),
        (CLEAR, CLEAR, (0.01, 0.05), 0.02, "survives", "+1.0 to +5.0"),
        (CLEAR, CLEAR, (0.001, 0.05), 0.0, "survives", "above the margin"),
        (CLEAR, (0.001, 0.04), (-0.03, -0.001), 0.02, "reduced", "+0.1 to +4.0 points remains"),
        (CLEAR, (0.0, 0.04), (-0.03, -0.001), 0.02, "reduced", "half of it may be left"),
        (CLEAR, (0.0, 0.02), (-0.04, -0.021), 0.02, "reduced", "half of it may be left"),
        (CLEAR, (0.0, 0.019), (-0.04, -0.021), 0.02, "erased", "less than half of it can be left"),
        (CLEAR, (-0.05, -0.01), (-0.09, -0.04), 0.02, "erased", "-5.0 to -1.0"),
        (CLEAR, CLEAR, (-0.02, 0.01), 0.02, "undecided", "more items or more training seeds"),
        (CLEAR, CLEAR, (-0.03, 0.0), 0.02, "undecided", "not wholly below zero"),
        ((0.0, 0.05), CLEAR, (-0.01, 0.01), 0.02, "undecided", "No gain to survive"),
        ((-0.06, -0.02), CLEAR, (0.01, 0.05), 0.02, "undecided", "training lowered the accuracy"),
        (CLEAR, (-0.01, 0.03), (-0.035, 0.01), 0.04, "undecided", "declare a smaller margin"),
        (CLEAR, (-0.02, 0.01), (-0.05, -0.03), 0.06, "erased", "wholly below zero"),
    ],
)
def test_rules(ref, quantized, survival, margin, verdict, reason):
    def interval(ends):
        return ends if isinstance(ends, Interval) else Interval(*ends)

    got, why = decide(
        delta_ref=0.04,
        ref=interval(ref),
        quantized=interval(quantized),
        survival=interval(survival),
        margin=margin,
    )
    assert got == verdict
    assert reason in why

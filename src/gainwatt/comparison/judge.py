"""One row per compared quantity: both values, the difference, its interval and test, and a verdict in plain words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from gainwatt.stats.multiple import holm

Verdict = Literal[
    "different",
    "no difference shown",
    "same",
    "within the noise floor",
    "above the noise floor, one run each",
    "refused",
    "missing",
]
VERDICTS: tuple[Verdict, ...] = (
    "different", "above the noise floor, one run each", "within the noise floor", "no difference shown", "same",
    "refused", "missing",
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One quantity of one cell on both sides.

    `difference` is b − a, with the interval `low` … `high` where a test made one; `relative` is b / a − 1 for
    quantities with a zero. `p_holm` is corrected over every test of the comparison.
    """

    quantity: str
    cell: str
    unit: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    method: str = ""
    p_value: float | None = None
    p_holm: float | None = None
    verdict: Verdict = "refused"
    note: str = ""

    def as_row(self) -> dict[str, Any]:
        """The fields in their order, for a table."""
        return asdict(self)


def judged(rows: list[Compared], confidence: float) -> list[Compared]:
    """Correct every p-value by Holm over all rows, and say of each tested row whether it exceeds noise."""
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    adjusted = holm([rows[place].p_value or 0.0 for place in tested])
    found = list(rows)
    for place, p_holm in zip(tested, adjusted, strict=True):
        row = rows[place]
        verdict: Verdict = row.verdict
        if verdict != "same":
            # Rounded at the 12th digit: 1 − 0.95 is 0.05000000000000004.
            verdict = "different" if p_holm < round(1 - confidence, 12) else "no difference shown"
        found[place] = replace(row, p_holm=p_holm, verdict=verdict)
    return found


def relative(a: float | None, b: float | None) -> float | None:
    """b / a − 1; None where either is missing or a is zero."""
    return b / a - 1 if a and b is not None and math.isfinite(b / a) else None

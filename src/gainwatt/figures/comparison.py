"""Differences of accuracy, gain and survival between two studies, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gainwatt.figures import style

if TYPE_CHECKING:
    from gainwatt.comparison.judge import Compared


def differences(rows: Sequence[Compared], *, percent: int) -> Any | None:
    """A forest plot of every row that has an interval in shares of items; None where there is none."""
    shown = [row for row in rows if row.unit == "share of items" and row.low is not None and row.high is not None]
    if not shown:
        return None
    figure, axes = style.new(6.8, 1.5 + 0.32 * len(shown))
    for place, row in enumerate(reversed(shown)):
        low, value, high = (100 * (number or 0.0) for number in (row.low, row.difference, row.high))
        clear = row.verdict == "different"
        bars = style.whiskers([(value, low, high)])
        colour = style.COLOURS[1] if clear else style.COLOURS[0]
        axes.errorbar(value, place, xerr=bars, fmt="D" if clear else "o", color=colour, capsize=3)
    axes.axvline(0, color="#444444", lw=0.8)
    axes.set_yticks(range(len(shown)), [f"{row.quantity}  {row.cell}" for row in reversed(shown)], fontsize=8)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set_xlabel("B − A (points)")
    axes.set_title(f"What differs: {percent} % intervals, each on its own")
    handles = [
        axes.plot([], [], marker, color=style.COLOURS[colour], label=label)[0]
        for marker, colour, label in (("D", 1, "different (Holm over all)"), ("o", 0, "no difference shown"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure

"""Ratios to each machine's own baseline: one row per cell, one colour and marker per machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gainwatt.figures import style

Row = dict[str, Any]
PANELS = (
    ("Time", ("latency", "rollout", "update", "step")),
    ("Energy (gross)", ("gross_j_per_token", "gross_j_per_rollout", "gross_j_per_step")),
)
MOST_ROWS = 40
_TICKS = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8)
NAMES = {
    "latency": "latency", "rollout": "rollout", "update": "update", "step": "step", "gross_j_per_token": "J/token",
    "gross_j_per_rollout": "J/rollout", "gross_j_per_step": "J/step",
}  # fmt: skip
STAGES = {"profile_inference": "generation", "profile_training": "GRPO", "evaluate_gsm8k": "evaluation"}


def ratios(rows: Sequence[Row], machines: Sequence[str]) -> Any | None:
    """A forest plot on a logarithmic axis, time beside energy; None where no row has a ratio.

    At most `MOST_ROWS` cells are drawn; the title says how many there are.
    """
    shown = [row for row in rows if row["ratio"] is not None]
    panels = [(title, [r for r in shown if r["quantity"] in names]) for title, names in PANELS]
    panels = [(title, found) for title, found in panels if found]
    if not panels:
        return None
    most = max(len(_cells(found)) for _, found in panels)
    height = 1.6 + 0.36 * min(most, MOST_ROWS) + 0.18 * len(machines)
    figure, axes = style.new(6.2 * len(panels), height, len(panels))
    for (title, found), panel in zip(panels, axes if len(panels) > 1 else [axes], strict=True):
        _panel(panel, title, found, machines)
    handles = [
        style.handle(name, color=_colour(place), marker=style.MARKERS[place % len(style.MARKERS)], ls="none")
        for place, name in enumerate(machines)
    ]
    style.legend_below(figure, handles, columns=1 if max(map(len, machines)) > 30 else None)
    return figure


def _panel(axes: Any, title: str, found: Sequence[Row], machines: Sequence[str]) -> None:
    cells = _cells(found)
    drawn = cells[:MOST_ROWS]
    for row in found:
        key = _cell(row)
        if key not in drawn:
            continue
        number = machines.index(row["machine"])
        place = len(drawn) - 1 - drawn.index(key) + _shift(number, len(machines))
        low, high = row["ratio_low"], row["ratio_high"]
        bars = style.whiskers([(row["ratio"], low, high)]) if low is not None and high is not None else None
        look = {"fmt": style.MARKERS[number % len(style.MARKERS)], "color": _colour(number), "capsize": 2, "ms": 5}
        # Without an interval the marker is hollow: one run says nothing about another.
        axes.errorbar(row["ratio"], place, xerr=bars, mfc=_colour(number) if bars else "white", **look)
    axes.axvline(1, color="#444444", lw=0.8)
    axes.set_yticks(range(len(drawn)), [_label(key) for key in reversed(drawn)], fontsize=8)
    axes.set_ylim(-0.7, len(drawn) - 0.3)
    _log_axis(axes)
    cut = f" (the first {len(drawn)} of {len(cells)})" if len(cells) > len(drawn) else ""
    axes.set_title(f"{title}{cut}")
    axes.set_xlabel("times the own baseline; left is better")


def _log_axis(axes: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    low, high = min(low, 0.8), max(high, 1.25)
    room = (high / low) ** 0.05
    axes.set_xlim(low / room, high * room)
    ticks = [tick * 10.0**power for power in range(-4, 5) for tick in _TICKS if high / low < 6 or tick in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _cell(row: Row) -> tuple[str, str, str, str, str]:
    return (row["stage"], row["workload"], row["arm"], row["quantity"], row["baseline"])


def _cells(found: Sequence[Row]) -> list[tuple[str, str, str, str, str]]:
    return list(dict.fromkeys(_cell(row) for row in found))


def _label(key: tuple[str, str, str, str, str]) -> str:
    stage, workload, arm, quantity, baseline = key
    load = "" if stage == "profile_training" else f", {workload}"
    return f"{STAGES[stage]}: {arm} / {baseline}\n{NAMES[quantity]}{load}"


def _shift(number: int, count: int) -> float:
    return 0.0 if count == 1 else 0.5 * (0.5 - number / (count - 1))


def _colour(number: int) -> str:
    return style.TRAINED_COLOURS[number % len(style.TRAINED_COLOURS)]

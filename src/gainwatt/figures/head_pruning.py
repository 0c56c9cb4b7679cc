"""The pruning curve: what is left when heads are switched off, by strategy."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.tables.head_pruning import head_pruning
from gainwatt.tables.results import Results

STRATEGIES = {
    "tv": ("lowest distance first", style.COLOURS[0], "o"),
    "random": ("random heads, mean and single draws", "#777777", "s"),
    "magnitude": ("smallest weights first", style.COLOURS[1], "^"),
    "tv_highest": ("highest distance first", style.COLOURS[2], "v"),
}
"""Strategy -> what it is called, colour, marker."""
Row = dict[str, Any]
_ASIDE = 0.5
"""Percent by which the strategies are set apart, so that their bars do not hide each other."""


def pruned_variants(results: Results) -> dict[str, list[Row]]:
    """Rows of the first two variants that have a curve, the base first."""
    found: dict[str, list[Row]] = {}
    for row in head_pruning(results):
        if row["status"] == "ok":
            found.setdefault(row["variant"], []).append(row)
    return dict(list(found.items())[:2])


def quantities(rows: list[Row]) -> list[tuple[str, str, float]]:
    """Column, label and factor of what is drawn: joules where they were measured, else tokens."""
    last = ("gross_j_per_item", "gross joules per answer", 1.0)
    if not any(row["gross_j_per_item"] is not None for row in rows):
        last = ("tokens_per_item", "tokens per answer", 1.0)
    return [("accuracy", "accuracy (%)", 100.0), ("nll_minus_none", "loss over unpruned (nats/token)", 1.0), last]


def pruning_curve(results: Results) -> Any | None:
    """Accuracy, loss and joules (else tokens) over the share of heads switched off; a row of panels per variant.

    None without a pruning curve.
    """
    drawn = pruned_variants(results)
    if not drawn:
        return None
    wanted = quantities([row for rows in drawn.values() for row in rows])
    figure, _ = style.new(11, 0.6 + 2.9 * len(drawn))
    figure.clear()
    grid = figure.subplots(len(drawn), len(wanted), squeeze=False, sharex=True)
    used: dict[str, None] = {}
    for line, (variant, rows) in zip(grid, drawn.items(), strict=True):
        for axes, (column, label, factor) in zip(line, wanted, strict=True):
            used |= dict.fromkeys(_panel(axes, rows, column, factor))
            axes.set_ylabel(label, fontsize=9)
            axes.set_title(variant, fontsize=10)
        line[0].set_ylim(bottom=0)
    for axes in grid[-1]:
        axes.set_xlabel("heads switched off (%)")
    style.legend_below(
        figure, [style.handle(STRATEGIES[s][0], color=STRATEGIES[s][1], marker=STRATEGIES[s][2]) for s in used]
    )
    return figure


def _panel(axes: Any, rows: list[Row], column: str, factor: float) -> list[str]:
    """Draw one quantity; returns the strategies that were drawn."""
    base = dict(next(row for row in rows if row["strategy"] == "none"))
    base["nll_minus_none"] = 0.0
    done = []
    for place, (strategy, (_, colour, marker)) in enumerate(STRATEGIES.items()):
        mine = [row for row in rows if row["strategy"] == strategy]
        # Of random heads there is a row for the mean of the draws, and one for each draw.
        points = [base, *(row for row in mine if row["draw"] is None)]
        points = [row for row in points if row[column] is not None]
        if not mine or not points:
            continue
        done.append(strategy)
        aside = _ASIDE * (place - 1)
        values = [factor * row[column] for row in points]
        axes.plot(_places(points, aside), values, color=colour, marker=marker, ms=5)
        _bars(axes, points, column, factor, colour, aside)
        single = [row for row in mine if row["draw"] is not None and row[column] is not None]
        values = [factor * row[column] for row in single]
        axes.plot(_places(single, aside), values, ls="", marker=marker, ms=3, mfc="none", mec=colour)
    return done


def _places(rows: list[Row], aside: float) -> list[float]:
    """Where points are drawn; the unpruned model belongs to every strategy and stays where it is."""
    return [row["percent"] + (aside if row["percent"] else 0.0) for row in rows]


def _bars(axes: Any, points: list[Row], column: str, factor: float, colour: str, aside: float) -> None:
    """Intervals where the column has them."""
    ends = (f"{column}_low", f"{column}_high")
    known = [row for row in points if all(row.get(end) is not None for end in ends)]
    if known:
        values = [(factor * row[column], factor * row[ends[0]], factor * row[ends[1]]) for row in known]
        middle, bars = [value for value, _, _ in values], style.whiskers(values)
        axes.errorbar(_places(known, aside), middle, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)

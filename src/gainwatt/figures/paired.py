"""What quantization changed, item by item: improved to the right, worsened to the left, the net with its interval."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.tables.accuracy import paired_effects
from gainwatt.tables.results import Results

ROWS = 40
"""More rows than these are not drawn; the table holds them all."""


def paired_changes(results: Results) -> Any | None:
    """One row per quantized cell: bars of items that changed, and the net change; None without any such pair."""
    rows = paired_effects(results)[:ROWS]
    if not rows:
        return None
    figure, axes = style.new(8.2, 1.8 + 0.3 * len(rows))
    for place, row in enumerate(reversed(rows)):
        share = 100 / row["n"]
        variant = row["to"].partition(".")[0]
        tint = style.colour(results.study, variant)
        axes.barh(place, share * row["improved"], color=tint, alpha=0.55, height=0.7)
        axes.barh(
            place, -share * row["worsened"], color=tint, alpha=0.25, height=0.7, hatch="////", edgecolor=tint, lw=0
        )
        value, low, high = (100 * row[key] for key in ("difference", "difference_low", "difference_high"))
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="D", ms=4, color="black", capsize=2.5)
        counts = f"+{row['improved']} / −{row['worsened']}"
        axes.text(1.01, place, counts, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.axvline(0, color="#444444", lw=0.8)
    limit = 1.08 * max(abs(edge) for edge in axes.get_xlim())
    axes.set_xlim(-limit, limit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.4g}".replace("-", "−") if value else "0")
    axes.set_yticks(range(len(rows)), [row["to"] for row in reversed(rows)], fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("items (%): worsened to the left, improved to the right")
    reference = results.study.quantize.reference
    axes.set_title(f"What quantization changed against {reference}, item by item (n = {rows[0]['n']})")
    percent = round(100 * results.study.statistics.confidence)
    style.legend_below(figure, [style.handle(f"net change, {percent} % interval", color="black", marker="D", ms=4)])
    return figure

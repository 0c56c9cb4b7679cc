"""What quantization changed, item by item: improved to the right, worsened to the left, the net with its interval."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.tables.accuracy import difference, quantized_pairs
from gainwatt.tables.results import Results

ROWS = 40
"""More rows than these are not drawn; the table holds them all."""


def drawn_rows(results: Results) -> tuple[list[dict[str, Any]], int]:
    """The rows that are drawn, and how many there are in all."""
    pairs = quantized_pairs(results)
    return [difference(results, before, after) for before, after in pairs[:ROWS]], len(pairs)


def paired_changes(results: Results) -> Any | None:
    """One row per quantized cell: bars of items that changed, and the net change; None without any such pair."""
    rows, _ = drawn_rows(results)
    if not rows:
        return None
    figure, axes = style.new(8.2, 1.8 + 0.3 * len(rows))
    for place, row in enumerate(reversed(rows)):
        share = 100 / row["n"]
        variant = row["to"].partition(".")[0]
        colour = style.colour(results.study, variant)
        strong, light = style.tint(colour, 0.55), style.tint(colour, 0.25)
        axes.barh(place, share * row["improved"], color=strong, height=0.7)
        axes.barh(place, -share * row["worsened"], color=light, height=0.7, hatch="////", edgecolor=strong, lw=0)
        value, low, high = (100 * row[key] for key in ("difference", "difference_low", "difference_high"))
        bars = style.whiskers([(value, low, high)])
        axes.errorbar(value, place, xerr=bars, fmt="D", ms=4, color="black", capsize=2.5)
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

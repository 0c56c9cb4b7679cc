"""Accuracy of every cell with its interval, and the survival of the gain against its margin."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import schemes, variants
from gainwatt.tables.accuracy import accuracy_matrix, survivals
from gainwatt.tables.results import Results


def accuracy(results: Results) -> Any | None:
    """Accuracy by scheme, one series per variant, Wilson intervals as bars; None where no cell was measured."""
    rows = {(row["variant"], row["precision"]): row for row in accuracy_matrix(results)}
    if all(row["accuracy"] is None for row in rows.values()):
        return None
    names, series = schemes(results.study), variants(results.study)
    figure, axes = style.new(max(6.4, 1.1 + 1.15 * len(names)), 3.6)
    for place, variant in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * 0.6 / max(1, len(series))
        shown = [
            (i + shift, rows[variant, name])
            for i, name in enumerate(names)
            if rows[variant, name]["accuracy"] is not None
        ]
        if not shown:
            continue
        y = [100 * row["accuracy"] for _, row in shown]
        low = [100 * (row["accuracy"] - row["accuracy_low"]) for _, row in shown]
        high = [100 * (row["accuracy_high"] - row["accuracy"]) for _, row in shown]
        axes.errorbar(
            [x for x, _ in shown], y, yerr=[low, high], fmt=style.MARKERS[place % 8],
            color=style.COLOURS[place % 8], capsize=3, label=variant,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (% of items)")
    n = max((row["num_examples"] or 0 for row in rows.values()), default=0)
    percent = round(100 * results.study.statistics.confidence)
    axes.set_title(f"Accuracy by scheme, {percent} % Wilson intervals, n = {n}")
    axes.legend(loc="best")
    return figure


def survival(results: Results) -> Any | None:
    """How much of the gain quantization took or added, against the margin declared in the study."""
    rows = survivals(results)
    if not rows:
        return None
    margin = 100 * results.study.statistics.survival_margin
    figure, axes = style.new(6.4, 1.4 + 0.42 * len(rows))
    for place, row in enumerate(reversed(rows)):
        value, low, high = (100 * row[key] for key in ("gain_survival", "gain_survival_low", "gain_survival_high"))
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=style.COLOURS[0], capsize=3)
        axes.annotate(row["verdict"], (high, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(0, color="#444444", lw=0.8)
    axes.axvline(-margin, color="#D55E00", lw=1, ls="--", label=f"margin −{margin:g} points")
    widest = max(abs(100 * row[key]) for row in rows for key in ("gain_survival_low", "gain_survival_high"))
    limit = 1.35 * max(widest, margin)
    axes.set_xlim(-limit, limit * 1.25)
    axes.axvspan(-margin, limit * 1.25, color=style.COLOURS[2], alpha=0.08, lw=0)
    axes.set_yticks(range(len(rows)), [f"{row['scheme']}\n{row['variants']}" for row in reversed(rows)], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel("gain under quantization − gain at the reference (points)")
    axes.set_title("Does the gain survive?")
    axes.legend(loc="lower right", fontsize=8)
    return figure

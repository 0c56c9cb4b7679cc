"""Accuracy of every cell with its interval, and the survival of the gain against its margin."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE, schemes, trained_variants, variants
from gainwatt.tables.accuracy import accuracy_matrix, survivals
from gainwatt.tables.results import Results

Row = dict[str, Any]
Point = tuple[float, float, float]


def accuracy(results: Results) -> Any | None:
    """Accuracy by scheme, one series per variant, Wilson intervals as bars; None where no cell was measured.

    A cell without a number stands at the foot of its column with its status. Many trained variants become one series:
    their mean, with a bar from the lowest to the highest.
    """
    rows = {(row["variant"], row["precision"]): row for row in accuracy_matrix(results)}
    if all(row["accuracy"] is None for row in rows.values()):
        return None
    names, series = schemes(results.study), _series(results, rows)
    width = 0.75 / len(series)
    figure, axes = style.new(max(6.4, 1.4 + len(names) * max(1.0, 0.3 * len(series))), 4.0)
    handles = []
    for place, (label, colour, points) in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * width
        drawn: list[tuple[float, Point]] = []
        for i, name in enumerate(names):
            point = points[name]
            if isinstance(point, str):
                axes.text(i + shift, 1.5, point, rotation=90, ha="center", va="bottom", color=colour, fontsize=8)
            else:
                drawn.append((i + shift, point))
        axes.errorbar(
            [x for x, _ in drawn], [y for _, (y, _, _) in drawn],
            yerr=style.whiskers([point for _, point in drawn]),
            fmt=style.MARKERS[place % 8], color=colour, capsize=3, ms=5.5,
        )  # fmt: skip
        handles.append(style.handle(label, color=colour, marker=style.MARKERS[place % 8], ls=""))
    for i in range(1, len(names)):
        axes.axvline(i - 0.5, color="#eeeeee", lw=0.8, zorder=0)
    axes.set_xticks(range(len(names)), names)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (% of items)")
    axes.set_title(f"Accuracy by scheme, {_percent(results)} % Wilson intervals, n = {_items(rows)}")
    style.legend_below(figure, handles)
    return figure


def _series(results: Results, rows: dict[tuple[str, str], Row]) -> list[tuple[str, str, dict[str, Point | str]]]:
    """Label, colour, and for each scheme the point with its bar, or the status of a cell without one; in percent."""
    study, names, trained = results.study, schemes(results.study), trained_variants(results.study)
    apart = variants(study) if len(trained) <= style.MANY else [BASE]
    found = []
    for variant in apart:
        points = {name: _point(rows[variant, name]) for name in names}
        if any(row["status"] != "missing" for row in (rows[variant, name] for name in names)):
            found.append((variant, style.colour(study, variant), points))
    if apart == [BASE] and trained:
        label = f"{len(trained)} trained variants: mean, lowest and highest"
        spread = {name: _spread([_point(rows[variant, name]) for variant in trained]) for name in names}
        found.append((label, style.TRAINED_COLOURS[0], spread))
    return found


def _point(row: Row) -> Point | str:
    if row["accuracy"] is None:
        return str(row["status"])
    return 100 * row["accuracy"], 100 * row["accuracy_low"], 100 * row["accuracy_high"]


def _spread(points: list[Point | str]) -> Point | str:
    values = [point[0] for point in points if not isinstance(point, str)]
    return (sum(values) / len(values), min(values), max(values)) if values else "missing"


def _items(rows: dict[tuple[str, str], Row]) -> int:
    return max((row["num_examples"] or 0 for row in rows.values()), default=0)


def _percent(results: Results) -> float:
    return round(100 * results.study.statistics.confidence)


def survival(results: Results) -> Any | None:
    """How much of the gain quantization took or added, against the margin declared in the study; a row per scheme.

    With several training seeds the bar is of all of them, and a small point below shows each alone.
    """
    many = len(trained_variants(results.study)) > style.MANY
    rows = survivals(results, each_seed=not many)
    if not rows:
        return None
    study, margin = results.study, 100 * results.study.statistics.survival_margin
    names = list(dict.fromkeys(row["scheme"] for row in rows))
    figure, axes = style.new(7.2, 1.7 + 0.5 * len(names))
    for place, name in enumerate(reversed(names)):
        pooled, *seeds = [row for row in rows if row["scheme"] == name]
        value, low, high = (100 * pooled[key] for key in ("gain_survival", "gain_survival_low", "gain_survival_high"))
        bars = style.whiskers([(value, low, high)])
        axes.errorbar(value, place, xerr=bars, fmt="o", color="black", capsize=3, zorder=3)
        axes.text(1.01, place, pooled["verdict"], transform=axes.get_yaxis_transform(), va="center", fontsize=9)
        for i, row in enumerate(seeds, start=1):
            tint = style.colour(study, row["variants"])
            below = 0.14 + 0.32 * i / (len(seeds) + 1)  # one below the other: equal ones would hide each other
            axes.plot(100 * row["gain_survival"], place - below, "o", ms=4, color=tint, zorder=2)
    axes.axvline(0, color="#444444", lw=0.8)
    axes.axvline(-margin, color="#D55E00", lw=1, ls="--")
    keys = ("gain_survival", "gain_survival_low", "gain_survival_high")
    limit = 1.1 * max(
        margin, *(abs(100 * row[key]) for row in rows for key in keys if row in _widest(rows, names, key))
    )
    axes.set_xlim(-limit, limit)
    axes.axvspan(-margin, limit, color=style.COLOURS[2], alpha=0.08, lw=0)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("gain under the scheme − gain at the reference (percentage points)")
    axes.set_title(f"Does the gain survive? {_percent(results)} % intervals")
    style.legend_below(figure, _survival_handles(results, rows, margin))
    return figure


def _widest(rows: list[Row], names: list[str], key: str) -> list[Row]:
    """The rows whose value of `key` is drawn: intervals of the pooled rows only, points of all."""
    if key == "gain_survival":
        return rows
    return [next(row for row in rows if row["scheme"] == name) for name in names]


def _survival_handles(results: Results, rows: list[Row], margin: float) -> list[Any]:
    groups = list(dict.fromkeys(row["variants"] for row in rows))
    alone = [group for group in groups if group in trained_variants(results.study)]
    label = "all training seeds" if len(alone) != 1 or len(groups) > 1 else alone[0]
    handles = [style.handle(label, color="black", marker="o")]
    if len(groups) > 1:
        handles += [
            style.handle(name, color=style.colour(results.study, name), marker="o", ms=4, ls="") for name in alone
        ]
    return [*handles, style.handle(f"margin −{margin:g} points", color="#D55E00", ls="--", lw=1)]

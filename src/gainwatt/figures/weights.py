"""Weight error by layer and kind of module, base against trained: computed for the proxy, stored for each scheme."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE
from gainwatt.tables.results import Results
from gainwatt.tables.weights import layer_table, place_of, stored_table
from gainwatt.weights.variants import matched_variant

PROXY = "symmetric 4-bit proxy"
_COLUMNS = 4
_WIDE = 30
Points = dict[str, dict[str, list[tuple[int, float]]]]
"""Kind of module -> scheme -> (layer, error) in order of layers."""


def layer_errors(results: Results) -> Any | None:
    """One panel per kind of module: relative squared error by layer and scheme; lines are the base, rings the trained.

    None without a diagnosis of the base.
    """
    base, other = shown(results)
    if not base:
        return None
    trained = matched_variant(results.study)
    rows = -(-len(base) // _COLUMNS)
    figure, _ = style.new(11, 0.9 + 2.1 * rows)
    figure.clear()
    grid = figure.subplots(rows, min(_COLUMNS, len(base)), sharex=True, sharey=True, squeeze=False).ravel()
    schemes = list(dict.fromkeys(scheme for series in base.values() for scheme in series))
    for axes, (module, series) in zip(grid, sorted(base.items()), strict=False):
        for place, scheme in enumerate(schemes):
            colour = style.COLOURS[place % 8]
            axes.plot(
                *zip(*series.get(scheme, []), strict=True), color=colour, ls=_dashes(place), lw=1.2, marker=".", ms=4
            )
            points = other.get(module, {}).get(scheme, [])
            axes.plot(*zip(*points, strict=True), "o", mfc="none", mec=colour, ms=6, mew=0.9) if points else None
        axes.set_title(module, fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[len(base) :]:
        axes.axis("off")
    _labels(figure, grid, schemes, trained if other else None, len(base))
    return figure


def shown(results: Results) -> tuple[Points, Points]:
    """What is drawn of the base, and of the trained variant; empty without a diagnosis."""
    found = {v: r for v, r in results.diagnoses.items() if r["status"] == "ok" and "layers" in r["outputs"]}
    trained = matched_variant(results.study)
    if BASE not in found:
        return {}, {}
    return _points(found[BASE]), _points(found[trained]) if trained in found else {}


def _labels(figure: Any, grid: Any, schemes: list[str], trained: str | None, panels: int) -> None:
    from matplotlib.lines import Line2D

    for axes in grid[max(0, panels - _COLUMNS) : panels]:
        axes.set_xlabel("layer")
        axes.tick_params(labelbottom=True)
    lines = [
        Line2D([], [], color=style.COLOURS[i % 8], ls=_dashes(i), marker=".", label=name)
        for i, name in enumerate(schemes)
    ]
    if trained:
        lines.append(Line2D([], [], ls="", marker="o", mfc="none", mec="#444444", label=f"ring: {trained}"))
    drawn = [value for axes in grid[:panels] for line in axes.get_lines() for value in line.get_ydata()]
    if not logarithmic_where_wide(grid[0], drawn):
        grid[0].set_ylim(0, 1.05 * grid[0].get_ylim()[1])
    figure.supylabel("relative squared error (%)", fontsize=10)
    figure.suptitle(
        "Weight error by layer and kind of module, base (lines) against trained", fontsize=11, weight="bold"
    )
    empty = grid[panels:]
    if len(empty):
        empty[0].legend(handles=lines, loc="center", fontsize=9)
    else:
        figure.legend(handles=lines, loc="outside lower center", ncol=len(lines), fontsize=9)


def _dashes(place: int) -> str:
    """Broken lines for the schemes for which no colour of their own is left."""
    return "-" if place < len(style.COLOURS) else "--"


def _points(record: Any) -> Points:
    found: Points = {}
    stored = stored_table(record)
    for row in layer_table(record):
        place = place_of(row["module_name"])
        if place["layer"] is None:
            continue
        errors = {PROXY: row["w4_relative_mse"]}
        errors |= {scheme: modules.get(row["module_name"]) for scheme, modules in stored.items()}
        for scheme, error in errors.items():
            if error is not None:
                found.setdefault(place["module"], {}).setdefault(scheme, []).append((place["layer"], 100 * error))
    for series in found.values():
        for points in series.values():
            points.sort()
    return found


def logarithmic_where_wide(axes: Any, values: Iterable[float]) -> bool:
    """Make the y axis logarithmic where the largest value is `_WIDE` times the smallest; a zero keeps it linear."""
    found = list(values)
    if not found or not 0 < _WIDE * min(found) < max(found):
        return False
    axes.set_yscale("log")
    return True

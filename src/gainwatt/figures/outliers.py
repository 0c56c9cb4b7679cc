"""Where outliers sit: maps of layer by kind of module, for weights and for the activations that meet them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gainwatt.figures import style
from gainwatt.record import Record
from gainwatt.study import BASE
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.weights import layer_table, place_of

WEIGHTS, INPUTS = "largest |w| / median |w|", "largest |x| / median channel maximum"
_WIDE = 5
Map = dict[tuple[str, int], float]
"""(kind of module, layer) -> value."""


def outlier_maps(results: Results) -> Any | None:
    """Largest weight and largest input of each matrix over the median, as maps; one row of maps for each variant shown.

    The base and, where its diagnosis is there, the first trained variant, on one colour scale. None without diagnoses.
    """
    found = _diagnoses(results)
    variants = list(found)
    weights, activations = ([of(record) for record in found.values()] for of in (_weight_map, _activation_map))
    if not any(weights):
        return None
    kinds = sorted({module for table in weights for module, _ in table})
    layers = 1 + max(layer for table in weights for _, layer in table)
    both = [(WEIGHTS, weights), (INPUTS, activations)]
    columns = 2 if any(activations) else 1
    figure, _ = style.new(5.5 * columns, 0.8 + len(variants) * (0.9 + 0.24 * len(kinds)))
    figure.clear()
    grid = figure.subplots(len(variants), columns, squeeze=False)
    for column, (what, tables) in enumerate(both[:columns]):
        limits = _limits(tables)
        for axes, variant, table in zip(grid[:, column], variants, tables, strict=True):
            image = _draw(axes, table, kinds, layers, limits)
            axes.set_title(f"{variant}: {what}", fontsize=10)
        if limits is not None:
            figure.colorbar(image, ax=list(grid[:, column]), shrink=0.9)
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    return figure


def shown(results: Results) -> list[tuple[str, str, Map]]:
    """Variant, what is drawn, and its map, for each map that is not empty."""
    maps = [
        (variant, what, of(record))
        for variant, record in _diagnoses(results).items()
        for what, of in ((WEIGHTS, _weight_map), (INPUTS, _activation_map))
    ]
    return [entry for entry in maps if entry[2]]


def _diagnoses(results: Results) -> dict[str, Record]:
    """Of the base and of the first other variant; empty without the base's."""
    found = {v: r for v, r in results.diagnoses.items() if r["status"] == "ok" and "layers" in r["outputs"]}
    names = [BASE, *[v for v in found if v != BASE][:1]] if BASE in found else []
    return {name: found[name] for name in names}


def _draw(axes: Any, table: Map, kinds: list[str], layers: int, limits: tuple[float, float] | None) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    if limits is None or not table:
        axes.axis("off")
        return None
    values = [[table.get((kind, layer), float("nan")) for layer in range(layers)] for kind in kinds]
    # A few matrices can exceed the others tenfold; the scale is logarithmic so that the others still differ.
    scale = LogNorm(*limits) if limits[1] > _WIDE * limits[0] > 0 else Normalize(*limits)
    image = axes.imshow(values, aspect="auto", cmap="cividis", norm=scale, interpolation="nearest")
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False)
    if layers <= 8:
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                colour = "black" if scale(value) > 0.5 else "white"
                axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=8, color=colour)
    return image


def _limits(maps: Iterable[Map]) -> tuple[float, float] | None:
    values = [value for table in maps for value in table.values()]
    return (min(values), max(values)) if values else None


def _weight_map(record: Any) -> Map:
    rows = [(row["module_name"], row["max_abs"], row["median_abs"]) for row in layer_table(record)]
    return _map(rows)


def _activation_map(record: Any) -> Map:
    if "activations" not in record["outputs"]:
        return {}
    columns = read_sidecar(record, "activations", ["module_name", "act_max_abs", "act_channel_max_abs_median"])
    names = ("module_name", "act_max_abs", "act_channel_max_abs_median")
    return _map(list(zip(*(columns[name] for name in names), strict=True)))


def _map(rows: list[tuple[str, float, float]]) -> Map:
    found = {}
    for module, largest, median in rows:
        place = place_of(module)
        if place["layer"] is not None and median:
            found[place["module"], place["layer"]] = largest / median
    return found

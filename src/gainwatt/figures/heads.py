"""Attention heads: a map of layer by head with its controls, and the observed distances beside their null."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE, Cell
from gainwatt.tables.heads import cells, head_scores, scored
from gainwatt.tables.results import Results, read_sidecar

CONTRASTS = {
    "general": ("tv_distance", "q_value", "against general prompts"),
    "matched": ("tv_matched", "q_value_matched", "against matched prompts"),
    "split_half": ("tv_split_half", "q_value_split_half", "between reasoning halves"),
}
"""Contrast -> column of its distance, of its q-value, and what it is called."""
Row = dict[str, Any]


def shown(results: Results) -> list[tuple[Cell, list[Row]]]:
    """The cells that are drawn, with their rows: the base and the first other scored variant, at the reference."""
    if results.study.heads is None:
        return []
    reference = results.study.quantize.reference
    found = [cell for cell in cells(results) if cell.scheme == reference and scored(results, cell) is not None]
    first = [cell for cell in found if cell.variant == BASE][:1]
    rows = head_scores(results)
    return [
        (cell, [row for row in rows if (row["variant"], row["scheme"]) == (cell.variant, cell.scheme)])
        for cell in first + [cell for cell in found if cell not in first][:1]
    ]


def contrasts_of(rows: list[Row]) -> list[str]:
    """The contrasts that were measured."""
    return [name for name, (column, _, _) in CONTRASTS.items() if rows[0][column] is not None]


def head_map(results: Results) -> Any | None:
    """Maps of layer by head, one row per cell shown, one column per contrast, on one scale; a dot: above the null.

    None without scores of the base or of any trained variant at the reference.
    """
    drawn = shown(results)
    if not drawn or results.study.heads is None:
        return None
    names = contrasts_of(drawn[0][1])
    layers = 1 + max(row["layer_idx"] for _, rows in drawn for row in rows)
    high = max(row[CONTRASTS[name][0]] for _, rows in drawn for row in rows for name in names)
    figure, _ = style.new(3.6 * len(names) + 0.8, (1.3 + max(1.5, 0.13 * layers)) * len(drawn))
    figure.clear()
    grid = figure.subplots(len(drawn), len(names), squeeze=False, sharex=True, sharey=True)
    for line, (cell, rows) in zip(grid, drawn, strict=True):
        for axes, name in zip(line, names, strict=True):
            image = _map(axes, rows, name, layers, high, results.study.heads.fdr)
            axes.set_title(f"{cell.variant}, {CONTRASTS[name][2]}", fontsize=9)
        line[0].set_ylabel("layer")
    for axes in grid[-1]:
        axes.set_xlabel("query head")
    figure.colorbar(image, ax=list(grid.ravel()), shrink=0.9, label="total-variation distance")
    return figure


def _map(axes: Any, rows: list[Row], name: str, layers: int, high: float, fdr: float) -> Any:
    column, q, _ = CONTRASTS[name]
    heads = 1 + max(row["head_idx"] for row in rows)
    values = [[float("nan")] * heads for _ in range(layers)]
    for row in rows:
        values[row["layer_idx"]][row["head_idx"]] = row[column]
    image = axes.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=high, interpolation="nearest")
    above = [row for row in rows if row[q] <= fdr]
    size = max(2.0, min(24.0, 900 / (layers * heads)))
    for row in above:
        colour = "black" if row[column] > 0.6 * high else "white"
        axes.scatter(row["head_idx"], row["layer_idx"], s=size, color=colour, linewidths=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False)
    return image


def head_null(results: Results) -> Any | None:
    """Distances of all heads beside those of relabelled pairs, a panel per contrast, of the first cell shown."""
    drawn = shown(results)
    if not drawn:
        return None
    cell, rows = drawn[0]
    record = scored(results, cell)
    assert record is not None  # noqa: S101 - `shown` gives scored cells alone
    null = read_sidecar(record, "null")
    names = contrasts_of(rows)
    figure, panels = style.new(3.7 * len(names), 3.4, len(names), sharex=True, squeeze=False)
    high = max(max(row[CONTRASTS[name][0]] for row in rows) for name in names)
    high = max([high, *(to for to, name in zip(null["tv_to"], null["contrast"], strict=True) if name in names)])
    edges = [high * i / 40 for i in range(41)]
    for axes, name in zip(panels.ravel(), names, strict=True):
        places = [i for i, found in enumerate(null["contrast"]) if found == name]
        centres = [(null["tv_from"][i] + null["tv_to"][i]) / 2 for i in places]
        weights = [null["count"][i] for i in places]
        axes.hist(centres, edges, weights=weights, density=True, color="#bbbbbb")
        observed = [row[CONTRASTS[name][0]] for row in rows]
        axes.hist(observed, edges, density=True, histtype="step", color=style.COLOURS[0], lw=1.6)
        axes.set_title(CONTRASTS[name][2], fontsize=9)
        axes.set_xlabel("total-variation distance")
        axes.set_yticks([])
        axes.set_xlim(0, high)
    panels.ravel()[0].set_ylabel("density")
    figure.suptitle(
        f"{cell.variant}: distances of the {len(rows)} heads and of relabelled prompts", fontsize=11, weight="bold"
    )
    from matplotlib.patches import Patch

    handles = [
        style.handle("heads", color=style.COLOURS[0]),
        Patch(color="#bbbbbb", label="labels swapped within pairs"),
    ]
    style.legend_below(figure, handles)
    return figure

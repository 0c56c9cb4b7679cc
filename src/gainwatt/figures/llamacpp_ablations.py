"""One figure per ablation: threads, layers offloaded, prompt batch, requests at once, quantization type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gainwatt.figures import style
from gainwatt.figures.llamacpp import TINT
from gainwatt.llamacpp.arms import BATCH, LAYERS, PARALLEL, THREADS, TYPES
from gainwatt.llamacpp.types import TYPES as GGUF_TYPES
from gainwatt.tables.llamacpp import ablations, arms
from gainwatt.tables.results import Results

Row = dict[str, Any]
AXES = {
    THREADS: "CPU threads",
    LAYERS: "layers offloaded to the GPU",
    BATCH: "prompt batch (tokens computed at once)",
    PARALLEL: "requests decoded at once",
    TYPES: "quantization type",
}
_PANELS = (
    ("latency_s", "latency_low_s", "latency_high_s", 1e3, "latency (ms)"),
    ("gross_j_per_request", "gross_low_j_per_request", "gross_high_j_per_request", 1.0, "energy of a request (J)"),
    ("edp_gross_js", "edp_gross_low_js", "edp_gross_high_js", 1.0, "EDP (J·s)"),
)


def figure_of(comparison: str) -> Callable[[Results], Any | None]:
    """The function that draws one comparison."""

    def draw(results: Results) -> Any | None:
        return ablation(results, comparison)

    return draw


def ablation(results: Results, comparison: str) -> Any | None:
    """Latency, energy and EDP over the values of a comparison, one line per suite; None where none was measured.

    Values are evenly spaced. A value that could not be measured stands on the axis without a point. Colour is the
    backend, the marker and the line's dashes are the suite.
    """
    table = [row for row in ablations(results) if row["comparison"] == comparison]
    if not any(row["status"] == "ok" for row in table):
        return None
    full = {(row["arm"], row["suite"]): row for row in arms(results)}
    values = _ordered(comparison, list(dict.fromkeys(row["value"] for row in table)))
    suites = list(dict.fromkeys(row["suite"] for row in table))
    backends = list(dict.fromkeys(row["backend"] for row in table if row["status"] == "ok"))
    figure, places = style.new(11.0 if len(values) > 4 else 9.6, 3.9, 3)
    for axes, panel in zip(places, _PANELS, strict=True):
        drawn = [_line(axes, table, full, values, b, s, suites, panel) for b in backends for s in suites]
        axes.set_xticks(range(len(values)), values, rotation=60 if len(values) > 6 else 0)
        axes.set(xlabel=AXES[comparison], title=panel[4], xlim=(-0.4, len(values) - 0.6))
        axes.set_ylim(bottom=0)
        if not any(drawn):
            axes.set_yticks([])
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#666666")
    handles = [style.handle(name, color=TINT[name], lw=2) for name in backends]
    handles += [
        style.handle(name, color="#777777", marker=style.MARKERS[i], ls=_DASHES[i % len(_DASHES)])
        for i, name in enumerate(suites)
    ]
    style.legend_below(figure, handles)
    return figure


_DASHES = ("-", "--", ":", "-.")


def _line(
    axes: Any, table: list[Row], full: dict[Any, Row], values: list[str], backend: str, suite: str, suites: list[str],
    panel: Any,
) -> bool:  # fmt: skip
    name, low, high, scale, _ = panel
    points = []
    for row in table:
        found = full.get((row["arm"], suite))
        if row["backend"] == backend and row["suite"] == suite and found is not None and found[name] is not None:
            ends = (
                found[name] if found[low] is None else found[low],
                found[name] if found[high] is None else found[high],
            )
            points.append((values.index(row["value"]), scale * found[name], scale * ends[0], scale * ends[1]))
    if not points:
        return False
    points.sort()
    place = suites.index(suite)
    shift = 0.06 * (place - (len(suites) - 1) / 2)
    axes.errorbar(
        [x + shift for x, *_ in points], [y for _, y, _, _ in points],
        yerr=style.whiskers([(y, lowest, highest) for _, y, lowest, highest in points]), color=TINT[backend],
        marker=style.MARKERS[place], ls=_DASHES[place % len(_DASHES)], ms=5.5, lw=1.4, capsize=2.5, elinewidth=0.9,
    )  # fmt: skip
    return True


def _ordered(comparison: str, values: list[str]) -> list[str]:
    """Numbers by size, types by their bits, `all` last."""
    if comparison == TYPES:
        return sorted(values, key=list(GGUF_TYPES).index)
    return sorted(values, key=lambda value: float(value) if value.isdigit() else float("inf"))

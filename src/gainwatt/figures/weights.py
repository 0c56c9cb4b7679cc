"""Reconstruction error by layer and kind of module, base against trained, and code flips."""

from __future__ import annotations

import re
from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE
from gainwatt.tables.results import Results, read_sidecar


def layer_errors(results: Results) -> Any | None:
    """Relative error of the symmetric 4-bit proxy by layer, one colour per module, base and first trained variant."""
    found = {v: r for v, r in results.diagnoses.items() if r["status"] == "ok" and "layers" in r["outputs"]}
    if BASE not in found:
        return None
    figure, axes = style.new(7.5, 3.6)
    modules: dict[str, int] = {}
    for variant, line in zip([BASE, *[v for v in found if v != BASE][:1]], ("-", ":"), strict=False):
        rows = read_sidecar(found[variant], "layers", ["module_name", "w4_relative_mse"])
        series: dict[str, list[tuple[int, float]]] = {}
        for name, error in zip(rows["module_name"], rows["w4_relative_mse"], strict=True):
            match = re.search(r"layers\.(\d+)\.(?:\w+\.)?(\w+)", name)
            if match and error is not None:
                series.setdefault(match[2], []).append((int(match[1]), 100 * error))
        for module, points in sorted(series.items()):
            place = modules.setdefault(module, len(modules))
            label = module if variant == BASE else None
            axes.plot(
                *zip(*sorted(points), strict=True), line, color=style.COLOURS[place % 8],
                marker=style.MARKERS[place % 8], ms=3.5, lw=1, label=label,
            )  # fmt: skip
    axes.set(title="4-bit round-to-nearest error by layer (solid: base, dotted: trained)", xlabel="layer")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("relative squared error (%)")
    axes.legend(fontsize=8, ncol=2)
    return figure

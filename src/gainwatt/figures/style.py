"""One style for every figure, and files that are the same bytes for the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart by people with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "gainwatt",
    "svg.fonttype": "path",
}


def new(width_in: float, height_in: float, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes (an array where `columns` > 1) in the project's style."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update(_STYLE)
    return pyplot.subplots(1, columns, figsize=(width_in, height_in), **options)


def save(figure: Any, folder: Path, name: str) -> list[str]:
    """Write `name`.svg and `name`.png without dates or version numbers inside; returns the file names."""
    from matplotlib import pyplot

    names = []
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        with atomic_path(folder / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, metadata=metadata)
        names.append(f"{name}.{kind}")
    pyplot.close(figure)
    return names

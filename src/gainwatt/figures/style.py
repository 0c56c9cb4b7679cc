"""One style for every figure, and files that are the same bytes for the same records.

A variant has the same colour, and a scheme the same marker, in every figure of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path
from gainwatt.study import BASE, Study, schemes, variants

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart by people with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "p", "<", ">", "h", "8", "d")
BASE_COLOUR = "#555555"
TRAINED_COLOURS = COLOURS[:6]
"""Yellow is too light for lines on white, and black is left to text and axes."""
KINDS = ("svg", "png")
MANY = len(TRAINED_COLOURS)
"""With more trained variants than this a figure shows their mean and range instead of each."""
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: no figure depends on what a machine has installed
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


def colour(study: Study, variant: str) -> str:
    """The colour of a variant: grey for the base, one of six for each trained one, one for all where they are more."""
    trained = variants(study)[1:]
    if variant == BASE:
        return BASE_COLOUR
    return TRAINED_COLOURS[trained.index(variant) if len(trained) <= MANY else 0]


def tint(colour: str, share: float) -> str:
    """The colour mixed with white: opaque, since SVG draws a hatch on a translucent face in the colour of the face."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * part + (1 - share) * 255):02x}" for part in parts)


def whiskers(points: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Lengths of the bars below and above each (value, low, high); an interval may leave its own estimate just out."""
    return [[max(0.0, value - low) for value, low, _ in points], [max(0.0, high - value) for value, _, high in points]]


def marker(study: Study, scheme: str) -> str:
    """The marker of a scheme, in the study's order."""
    return MARKERS[schemes(study).index(scheme) % len(MARKERS)]


def new(width_in: float, height_in: float, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure and its axes (an array where `columns` > 1) in the project's style."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcdefaults()  # a person's own matplotlibrc does not change a figure
    mpl.use("Agg")
    mpl.rcParams.update(_STYLE)
    return pyplot.subplots(1, columns, figsize=(width_in, height_in), **options)


def legend_below(figure: Any, handles: list[Any], *, columns: int | None = None) -> None:
    """One legend for the whole figure, under it, where it hides no data."""
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns or min(len(handles), 6), fontsize=9)


def handle(label: str, **options: Any) -> Any:
    """A line or marker for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **options)


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

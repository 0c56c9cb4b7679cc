"""Draws the power trace of a meter: watts over time, phases shaded, idle power and power limit as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path
from gainwatt.energy.meter import EnergyMeter
from gainwatt.errors import InputError, UnavailableError

FORMATS = (".svg", ".png", ".pdf")
_LETTER, _ROW = 0.011, 0.06
"""Room of a letter and of a line, as shares of the axes."""
_SHADES = ("#4c72b0", "#dd8452", "#55a868", "#8172b3")


def draw_trace(meter: EnergyMeter, path: Path) -> bool:
    """Draw to `path` (.svg, .png or .pdf); False and no file when there is no power sample.

    Raises InputError for another ending and UnavailableError without matplotlib.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"cannot draw {path}: unknown ending {path.suffix!r}", f"use one of {', '.join(FORMATS)}")
    series = _series(meter)
    if not series:
        return False
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise UnavailableError(
            "matplotlib is not installed", "pip install matplotlib, or leave out --figure"
        ) from error
    # A fixed salt and no date make the same trace the same file.
    with mpl.rc_context({"svg.hashsalt": "gainwatt", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(8, 3.2), constrained_layout=True)
        for label, times, watts in series:
            axes.plot(times, watts, linewidth=1.0, label=label)
        _lines(meter, axes)
        _phases(meter, axes)
        axes.set_xlabel("seconds since the start of the window")
        axes.set_ylabel("power (W)")
        # Room above the highest line: a power limit that lies on the frame is not seen.
        axes.set_ylim(0, 1.06 * max(max(line.get_ydata()) for line in axes.get_lines()) or 1)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=4, frameon=False)
        with atomic_path(path) as temporary:
            kind = path.suffix[1:].lower()
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
        plt.close(figure)
    return True


def _series(meter: EnergyMeter) -> list[tuple[str, list[float], list[float]]]:
    start = meter.start_s or 0.0
    found = []
    for track in meter.tracks:
        if track.times:
            label = f"{track.device.info.label} {track.device.info.name}"
            found.append((label, [time_s - start for time_s in track.times], list(track.power)))
    return found


def _lines(meter: EnergyMeter, axes: Any) -> None:
    """Idle power of every board, and every power limit that one of them has."""
    boards = [device for device in meter.summary()["devices"] if device["power_source"] is not None]
    for key, style in (("idle_before_w", ":"), ("power_limit_w", "--")):
        for number, watts in enumerate(sorted({device[key] for device in boards if device[key] is not None})):
            label = None if number else key.removesuffix("_w").replace("_", " ")
            axes.axhline(watts, color="0.4", linewidth=0.8, linestyle=style, label=label)


def _phases(meter: EnergyMeter, axes: Any) -> None:
    top = [phase for phase in meter.phases() if phase["depth"] == 0]
    names = list(dict.fromkeys(phase["name"] for phase in top))
    for phase in top:
        shade = _SHADES[names.index(phase["name"]) % len(_SHADES)]
        end = phase["start_s"] + phase["seconds"]
        axes.axvspan(phase["start_s"], end, color=shade, alpha=0.12, linewidth=0)
    first, last = axes.get_xlim()
    middles = [phase["start_s"] + phase["seconds"] / 2 for phase in top]
    widths = [len(phase["name"]) * _LETTER * (last - first) for phase in top]
    for phase, middle, row in zip(top, middles, label_rows(middles, widths), strict=True):
        place = (middle, 0.02 + row * _ROW)
        # Names stand where idle power is drawn: what lies behind them is dimmed.
        behind = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}
        axes.annotate(phase["name"], place, xycoords=("data", "axes fraction"), ha="center", fontsize=8, bbox=behind)


def label_rows(middles: Sequence[float], widths: Sequence[float]) -> list[int]:
    """The lowest row for each centred label in which it does not touch the one before it there."""
    ends: list[float] = []
    rows = []
    for middle, width in zip(middles, widths, strict=True):
        row = next((row for row, end in enumerate(ends) if end < middle - width / 2), len(ends))
        ends[row : row + 1] = [middle + width / 2]
        rows.append(row)
    return rows

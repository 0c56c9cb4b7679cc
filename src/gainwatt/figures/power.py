"""The power trace of a job with its phases shaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.figures import style
from gainwatt.record import Record
from gainwatt.tables.results import Results, read_sidecar


def power_trace(results: Results) -> Any | None:
    """Power over time of the metered job that used most energy, phases shaded; None where nothing was metered."""
    metered = [r for r in results.all_records() if r["energy"].get("gross_j") and "trace" in r["outputs"]]
    if not metered:
        return None
    record = max(metered, key=lambda found: (found["energy"]["gross_j"], found["path"]))
    trace = read_sidecar(record, "trace", ["time_s", "device", "power_w"])
    figure, axes = style.new(9, 3.2)
    for place, device in enumerate(sorted(set(trace["device"]))):
        points = [
            (t, w) for t, d, w in zip(trace["time_s"], trace["device"], trace["power_w"], strict=True) if d == device
        ]
        axes.plot(*zip(*points, strict=True), color=style.COLOURS[place % 8], lw=0.9, label=str(device))
    _shade(axes, record)
    cell = Path(record["path"]).stem
    axes.set(title=f"Power of {record['stage']} {cell}", xlabel="time (s)", ylabel="power (W)", ylim=(0, None))
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _shade(axes: Any, record: Record) -> None:
    for place, phase in enumerate(p for p in record["phases"] if p["depth"] == 0):
        start, end = phase["start_s"], phase["start_s"] + phase["seconds"]
        axes.axvspan(start, end, color=style.COLOURS[place % 8], alpha=0.08, lw=0)
        axes.annotate(
            phase["name"], (start, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8, rotation=90
        )

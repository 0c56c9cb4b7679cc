"""The power trace of a job with its phases shaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.environment import gpus_of
from gainwatt.figures import style
from gainwatt.record import Record
from gainwatt.tables.results import Results, read_sidecar

_IDLE = "#f2f2f2"


def traced(results: Results) -> Record | None:
    """The metered job that used most energy."""
    metered = [r for r in results.all_records() if r["energy"].get("gross_j") and "trace" in r["outputs"]]
    return max(metered, key=lambda found: (found["energy"]["gross_j"], found["path"]), default=None)


def power_trace(results: Results) -> Any | None:
    """Power over time of the metered job that used most energy, phases shaded; None where nothing was metered."""
    record = traced(results)
    if record is None:
        return None
    trace = read_sidecar(record, "trace", ["time_s", "device", "power_w"])
    figure, axes = style.new(9, 3.9)
    peak, handles = 0.0, []
    for place, device in enumerate(sorted(set(trace["device"]))):
        points = [
            (t, w)
            for t, d, w in zip(trace["time_s"], trace["device"], trace["power_w"], strict=True)
            if d == device and w is not None
        ]
        if not points:
            continue
        tint = style.COLOURS[(0, 1, 6, 3)[place % 4]]
        axes.plot(*zip(*points, strict=True), color=tint, lw=1.1, zorder=3)
        handles.append(style.handle(f"{device}: mean {_mean(points):.0f} W", color=tint))
        peak = max(peak, *(w for _, w in points))
    times = [t for t in trace["time_s"] if t is not None]
    axes.set_xlim(min(times), max(times))
    axes.set_ylim(0, 1.08 * peak)
    handles += _shade(axes, record)
    _limit(axes, record, peak)
    cell = Path(record["path"]).stem
    axes.set(title=f"Power of {record['stage']} {cell}", xlabel="time (s)", ylabel="power (W)")
    axes.grid(axis="x", visible=False)
    style.legend_below(figure, handles, columns=4)
    return figure


def _mean(points: list[tuple[float, float]]) -> float:
    """Mean over the samples; they are evenly spaced."""
    return sum(w for _, w in points) / len(points)


def _shade(axes: Any, record: Record) -> list[Any]:
    """Shade the outer phases, each name in one colour; what lies outside of all of them is grey."""
    from matplotlib.patches import Patch

    outer = [phase for phase in record["phases"] if phase["depth"] == 0]
    names = list(dict.fromkeys(phase["name"] for phase in outer))
    # Hatches tell apart what light colours do not, on paper and to any eye.
    looks: dict[str, dict[str, Any]] = {
        name: {
            "facecolor": style.COLOURS[(5, 4, 2, 3, 7, 1)[i % 6]],
            "alpha": 0.25,
            "hatch": ("", "//", "..", "xx")[i % 4],
        }
        for i, name in enumerate(names)
    }
    axes.axvspan(*axes.get_xlim(), color=_IDLE, lw=0, zorder=0)
    for phase in outer:
        start, end = phase["start_s"], phase["start_s"] + phase["seconds"]
        axes.axvspan(start, end, facecolor="white", lw=0, zorder=0.4)
        axes.axvspan(start, end, edgecolor="white", lw=0, zorder=0.5, **looks[phase["name"]])
    handles = [Patch(label=_label(record, name), edgecolor="white", **looks[name]) for name in names]
    return [*handles, Patch(facecolor=_IDLE, label="between phases, idle")]


def _label(record: Record, name: str) -> str:
    total = next((total for total in record["energy"]["phase_totals"] if total["path"] == name), None)
    if total is None:
        return name
    joules = total.get("gross_j")
    return f"{name}: {total['seconds']:.3g} s" + (f", {joules:.4g} J" if joules is not None else "")


def _limit(axes: Any, record: Record, peak: float) -> None:
    """The boards' power limit, as a line where it is near and in words where it is far."""
    told = (gpu.get("power_limit_w") for gpu in gpus_of(record["environment"]))
    limits = {watts for watts in told if watts is not None}
    if len(limits) != 1:
        return
    (limit,) = limits
    text = f"power limit {limit:g} W"
    if limit < 1.6 * peak:
        axes.set_ylim(0, 1.08 * max(limit, peak))
        axes.axhline(limit, color="#D55E00", lw=1, ls="--")
        axes.text(0.995, limit, text, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
    else:
        axes.text(
            0.995, 1.0, f"{text} (peak {peak:.0f} W)", transform=axes.transAxes, ha="right", va="bottom", fontsize=8
        )

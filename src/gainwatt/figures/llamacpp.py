"""Figures of the llama.cpp profile: energy against latency, backends by suite, power over time, race to sleep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.figures import style
from gainwatt.llamacpp.arms import BACKENDS, SESSION
from gainwatt.tables.llamacpp import arms, measured, session, sleep_race
from gainwatt.tables.results import Results, read_sidecar

Row = dict[str, Any]
TINT = {"cpu": style.COLOURS[0], "gpu": style.COLOURS[1]}
MOST_SHADES = 400


def ok_rows(results: Results) -> list[Row]:
    """Rows of the arms that were measured."""
    return [row for row in arms(results) if row["status"] == "ok"]


def energy_vs_latency(results: Results) -> Any | None:
    """Gross joules over latency of a request, one point per arm and suite; None without joules.

    Colour is the backend, the marker the suite, as in the published figure; bars are intervals over the windows.
    """
    rows = [row for row in ok_rows(results) if row["gross_j_per_request"] is not None]
    if not rows:
        return None
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    figure, axes = style.new(7.2, 5.0)
    for row in rows:
        bars = [_bar(row, "latency_s", "latency_low_s", "latency_high_s", 1e3),
                _bar(row, "gross_j_per_request", "gross_low_j_per_request", "gross_high_j_per_request", 1)]  # fmt: skip
        axes.errorbar(
            1e3 * row["latency_s"], row["gross_j_per_request"], xerr=bars[0], yerr=bars[1], ls="", ms=7, mec="white",
            mew=0.7, marker=style.MARKERS[suites.index(row["suite"]) % len(style.MARKERS)], color=TINT[row["backend"]],
            elinewidth=0.8, alpha=0.9,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="latency of a request (ms, without loading)",
             ylabel="gross energy of a request (J)", title="Energy against latency, every arm and suite")  # fmt: skip
    _plain_numbers(axes)
    used = dict.fromkeys(row["backend"] for row in rows)
    handles = [style.handle(name, color=TINT[name], marker="o", ls="") for name in used]
    handles += [style.handle(n, color="#777777", marker=style.MARKERS[i], ls="") for i, n in enumerate(suites)]
    style.legend_below(figure, handles)
    return figure


def _plain_numbers(axes: Any) -> None:
    """`300` instead of `3 × 10²` on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _bar(row: Row, name: str, low: str, high: str, scale: float) -> list[list[float]] | None:
    """Lengths of the bar below and above; none where it would leave a logarithmic axis."""
    if row[low] is None or row[high] is None or row[low] <= 0:
        return None
    return [[max(0.0, scale * (row[name] - row[low]))], [max(0.0, scale * (row[high] - row[name]))]]


def metrics_comparison(results: Results) -> Any | None:
    """Latency, energy and EDP of each backend side by side, suite by suite; None where no backend was measured."""
    main = {arm.name for arm, _ in measured(results) if arm.value(BACKENDS) is not None}
    rows = [row for row in ok_rows(results) if row["arm"] in main]
    if not rows:
        return None
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    panels = (
        ("latency_s", "latency_low_s", "latency_high_s", 1e3, "latency (ms)"),
        ("gross_j_per_request", "gross_low_j_per_request", "gross_high_j_per_request", 1.0, "energy (J)"),
        ("edp_gross_js", "edp_gross_low_js", "edp_gross_high_js", 1.0, "EDP (J·s)"),
    )
    figure, places = style.new(10, 3.8, 3)
    for axes, (name, low, high, scale, label) in zip(places, panels, strict=True):
        _bars(axes, rows, suites, backends, (name, low, high, scale))
        axes.set(title=f"{label} of a request", ylabel=label)
    handles = [style.handle(name, color=TINT[name], marker="s", ls="", ms=8) for name in backends]
    style.legend_below(figure, handles)
    return figure


def _bars(axes: Any, rows: list[Row], suites: list[str], backends: list[str], columns: Any) -> None:
    name, low, high, scale = columns
    width = 0.8 / len(backends)
    drawn = False
    for place, backend in enumerate(backends):
        for row in (row for row in rows if row["backend"] == backend and row[name] is not None):
            drawn = True
            x = suites.index(row["suite"]) + (place - (len(backends) - 1) / 2) * width
            axes.bar(x, scale * row[name], width * 0.92, color=TINT[backend])
            if row[low] is not None and row[high] is not None:
                ends = style.whiskers([(scale * row[name], scale * row[low], scale * row[high])])
                axes.errorbar(x, scale * row[name], yerr=ends, color="#222222", lw=1, capsize=3)
    axes.set_xticks(range(len(suites)), suites)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(bottom=0)
    if not drawn:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#666666")


def power_trace(results: Results) -> Any | None:
    """Power of every device over the session, windows shaded by backend; None where no power was sampled."""
    record = session(results)
    if record is None or "trace" not in record["outputs"]:
        return None
    trace = read_sidecar(record, "trace", ["time_s", "device", "power_w"])
    points = [(t, d, w) for t, d, w in zip(*trace.values(), strict=True) if w is not None]
    if not points:
        return None
    figure, axes = style.new(9.5, 4.0)
    handles = []
    for place, device in enumerate(sorted({d for _, d, _ in points})):
        tint = style.COLOURS[(6, 2, 3, 4)[place % 4]]
        axes.plot(*zip(*((t, w) for t, d, w in points if d == device), strict=True), color=tint, lw=0.9, zorder=3)
        handles.append(style.handle(str(device), color=tint))
    backend_of = {arm.name: arm.backend for arm, _ in measured(results)}
    windows = [phase for phase in record["phases"] if phase["name"].startswith("window ")]
    for phase in windows[:MOST_SHADES]:
        backend = backend_of.get(phase["name"].split()[1], "cpu")
        end = phase["start_s"] + phase["seconds"]
        axes.axvspan(phase["start_s"], end, color=style.tint(TINT[backend], 0.3), lw=0, zorder=0)
    used = list(dict.fromkeys(backend_of.get(phase["name"].split()[1], "cpu") for phase in windows))
    handles += [
        style.handle(f"window, {name}", color=style.tint(TINT[name], 0.3), marker="s", ls="", ms=9) for name in used
    ]
    axes.set(xlabel="time in the session (s)", ylabel="power (W)", title="Power during the session")
    axes.set_ylim(bottom=0)
    axes.set_xlim(min(t for t, _, _ in points), max(t for t, _, _ in points))
    style.legend_below(figure, handles)
    return figure


def race_to_sleep(results: Results) -> Any | None:
    """Joules until the deadline over the power at rest, for the arms that win somewhere; None without joules."""
    table = sleep_race(results)
    if not table:
        return None
    suites = list(dict.fromkeys(row["suite"] for row in table))
    figure, places = style.new(3.6 * len(suites) + 1, 3.9, len(suites))
    every = {(row["arm"], row["suite"]): row for row in ok_rows(results)}
    tints: dict[str, str] = {}
    for axes, suite in zip(places if len(suites) > 1 else [places], suites, strict=True):
        mine = [row for row in table if row["suite"] == suite]
        limit = _limit(mine)
        names = list(dict.fromkeys([*(row["winner"] for row in mine), mine[0]["fastest"]]))
        for name in names:
            tint = tints.setdefault(name, style.COLOURS[len(tints) % len(style.COLOURS)])
            found = every[name, suite]
            start = found["gross_j_per_request"]
            rest = max(0.0, mine[0]["deadline_s"] - found["s_per_request"])
            axes.plot([0, limit], [start, start + limit * rest], color=tint, lw=1.8)
        for row in mine[1:]:
            axes.axvline(row["idle_from_w"], color="#999999", lw=0.8, ls=":")
        if mine[0]["measured_idle_w"] is not None:
            axes.axvline(mine[0]["measured_idle_w"], color="#222222", lw=1, ls="--")
        axes.set(title=suite, xlabel="power at rest (W)", xlim=(0, limit))
        axes.set_ylim(bottom=0)
    (places[0] if len(suites) > 1 else places).set_ylabel("energy until the deadline (J)")
    handles = [style.handle(name, color=tint) for name, tint in tints.items()]
    style.legend_below(figure, [*handles, style.handle("measured idle power", color="#222222", ls="--")])
    return figure


def _limit(rows: list[Row]) -> float:
    """Right end of the axis: beyond the last change of winner and the measured idle power."""
    marks = [row["idle_from_w"] for row in rows] + [rows[0]["measured_idle_w"] or 0.0]
    return 1.25 * max(*marks, 1.0)


def session_name(results: Results) -> str:
    """File name of the session's record."""
    record = session(results)
    return Path(record["path"]).stem if record else SESSION

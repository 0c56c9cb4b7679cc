"""Figures of the serving benchmark: speed against latency, joules against concurrency, goodput, and the decode roof.

A variant keeps its colour and a scheme its marker; the base is drawn wide and pale, forced kernels are dotted. Lengths
are never mixed: the fixed ones are drawn where they were measured, else the natural ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE, Study, schemes, variants
from gainwatt.study.serving_cells import Start
from gainwatt.tables.results import Results
from gainwatt.tables.serving import Measured, measured

Point = tuple[float, float, Measured]
Place = Callable[[Measured], tuple[float | None, float | None]]
OFFLINE_TITLE, ONLINE_TITLE = "Closed batches, in process", "Clients on a server"


def latency(results: Results) -> Any | None:
    """Throughput over latency: of a request in a closed batch (left), end to end on a server (right)."""

    def batches(found: Measured) -> tuple[float | None, float | None]:
        return found.metrics.get("latency_p50_s"), found.metrics.get("throughput_tok_s")

    def clients(found: Measured) -> tuple[float | None, float | None]:
        e2e_ms = found.metrics.get("e2e_p50_ms")
        return (None if e2e_ms is None else e2e_ms / 1e3), found.metrics.get("throughput_tok_s")

    panels = _panels(results, batches, clients)
    if not panels:
        return None
    figure, axes = _figure(len(panels), 4.6)
    for place, (title, lines) in zip(axes, panels, strict=True):
        _draw(place, results.study, lines, label=True)
        place.set(title=title, xlabel="latency of a request, median (s)", ylabel="throughput (generated tokens/s)")
        place.set(xscale="log", yscale="log")
        _plain_ticks(place)
    style.legend_below(figure, _handles(results.study, panels), columns=5)
    return figure


def energy(results: Results) -> Any | None:
    """Gross joules per generated token over the answers generated at once, with intervals; None without joules."""

    def at_once(found: Measured) -> tuple[float | None, float | None]:
        return found.load.size, found.metrics.get("gross_j_per_token")

    panels = _panels(results, at_once, at_once)
    if not panels:
        return None
    figure, axes = _figure(len(panels), 4.6)
    for place, (title, lines) in zip(axes, panels, strict=True):
        _draw(place, results.study, lines)
        _intervals(place, results.study, lines)
        words = "batch size" if title == OFFLINE_TITLE else "clients"
        place.set(title=title, xlabel=words, ylabel="gross energy per generated token (J)")
        place.set(xscale="log", yscale="log")
        _plain_ticks(place, sorted({x for line in lines.values() for x, _, _ in line}))
    style.legend_below(figure, _handles(results.study, panels), columns=5)
    return figure


def goodput(results: Results) -> Any | None:
    """Requests per second within the service level: over the clients, and over the rate of arrivals."""

    def place_of(found: Measured) -> tuple[float | None, float | None]:
        return found.load.size, found.metrics.get("goodput_requests_per_s")

    panels = [
        (title, _lines(results, "online", kinds, place_of))
        for title, kinds in ((ONLINE_TITLE, ("closed",)), ("Arrivals at random", ("poisson",)))
    ]
    panels = [(title, lines) for title, lines in panels if lines]
    if not panels:
        return None
    figure, axes = _figure(len(panels), 4.6)
    for place, (title, lines) in zip(axes, panels, strict=True):
        _draw(place, results.study, lines)
        words = "clients" if title == ONLINE_TITLE else "arrivals (requests/s)"
        place.set(title=title, xlabel=words, ylabel="goodput (requests/s within the service level)")
        place.xaxis.get_major_locator().set_params(integer=title == ONLINE_TITLE)
        place.set_xlim(0, 1.08 * max(x for line in lines.values() for x, _, _ in line))
        place.set_ylim(0, 1.1 * max(0.1, *(y for line in lines.values() for _, y, _ in line)))
        if title != ONLINE_TITLE:
            end = place.get_xlim()[1]
            place.plot([0, end], [0, end], color="#999999", lw=0.8, ls=":", zorder=0)
            _capacity(place, results)
    style.legend_below(figure, _handles(results.study, panels), columns=5)
    return figure


def roofs(results: Results) -> Any | None:
    """Decode speed of closed batches over the batch size, and the roof of each checkpoint above it (dashed)."""
    lines = _lines(results, "offline", ("sequential", "batch"), lambda f: (f.load.size, f.metrics.get("decode_tok_s")))
    above = _lines(
        results, "offline", ("sequential", "batch"), lambda f: (f.load.size, f.metrics.get("decode_roof_tok_s"))
    )
    if not lines or not above:
        return None
    figure, axes = style.new(7.0, 4.8)
    _draw(axes, results.study, lines)
    drawn: set[tuple[tuple[float, float], ...]] = set()
    for start, points in above.items():
        places = tuple((x, round(y, 3)) for x, y, _ in points)
        if places not in drawn:  # variants of one shape and scheme have one roof
            drawn.add(places)
            axes.plot(*zip(*places, strict=True), ls="--", lw=1.0, color="#888888", zorder=1)
            axes.annotate(start.cell.scheme, places[-1], xytext=(4, 0), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", title="Decode speed and its roof", xlabel="batch size")
    axes.set_ylabel("decode (tokens/s of all answers together)")
    _plain_ticks(axes, sorted({x for line in lines.values() for x, _, _ in line}))
    handles = [*_handles(results.study, [("", lines)]), style.handle("roof of a scheme", color="#888888", ls="--")]
    style.legend_below(figure, handles, columns=4)
    return figure


def lengths_drawn(results: Results) -> str:
    """`fixed` or `natural`: which cells the figures show."""
    serve = results.study.serve
    return "fixed" if serve is not None and "fixed" in serve.lengths else "natural"


def _panels(results: Results, offline: Place, online: Place) -> list[tuple[str, dict[Start, list[Point]]]]:
    left = _lines(results, "offline", ("sequential", "batch"), offline)
    right = _lines(results, "online", ("closed",), online)
    return [(title, lines) for title, lines in ((OFFLINE_TITLE, left), (ONLINE_TITLE, right)) if lines]


def _lines(results: Results, mode: str, kinds: Sequence[str], place: Place) -> dict[Start, list[Point]]:
    """Points of each start, in the order of their loads; cells that failed or lack a number are left out."""
    found: dict[Start, dict[float, Point]] = {}
    for cell in measured(results, mode):
        if cell.load.kind not in kinds or cell.load.lengths != lengths_drawn(results):
            continue
        if cell.record["status"] != "ok":
            continue
        x, y = place(cell)
        if x is not None and y is not None and x > 0 and (y > 0 or "poisson" in kinds or "closed" in kinds):
            # One prompt after the other is a batch of one: where both were measured the batch, which is later, counts.
            found.setdefault(cell.start, {})[cell.load.size or 0] = (x, y, cell)
    return {start: [points[size] for size in sorted(points)] for start, points in found.items()}


def _figure(panels: int, height_in: float) -> tuple[Any, list[Any]]:
    figure, axes = style.new(4.2 + 4.2 * (panels - 1) + 1.0, height_in, panels)
    return figure, [axes] if panels == 1 else list(axes)


def _draw(axes: Any, study: Study, lines: dict[Start, list[Point]], *, label: bool = False) -> None:
    alone = {start.cell.variant for start in lines} == {BASE}
    for start, points in lines.items():
        look = _look(study, start) | _weight(start, alone=alone)
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], **look)
    axes.margins(y=0.12)
    if label:
        first = next(iter(lines.values()))
        for x, y, found in first:
            axes.annotate(
                f"{found.load.size:g}", (x, y), xytext=(0, 7), textcoords="offset points", fontsize=8, ha="center",
                color="#555555",
            )  # fmt: skip


def _intervals(axes: Any, study: Study, lines: dict[Start, list[Point]]) -> None:
    for start, points in lines.items():
        for x, y, found in points:
            low, high = (found.metrics.get(f"gross_j_per_token_{end}") for end in ("low", "high"))
            if low is not None and high is not None:
                axes.plot([x, x], [max(low, y / 10), high], color=_look(study, start)["color"], lw=0.8, alpha=0.6)


def _capacity(axes: Any, results: Results) -> None:
    for found in measured(results, "online"):
        rate = found.metrics.get("capacity_requests_per_s")
        if found.load.kind == "capacity" and rate and found.load.lengths == lengths_drawn(results):
            colour = style.colour(results.study, found.start.cell.variant)
            axes.axvline(rate, color=colour, lw=0.8, ls="--", alpha=0.6)


def _look(study: Study, start: Start) -> dict[str, Any]:
    return {
        "color": style.colour(study, start.cell.variant),
        "marker": style.marker(study, start.cell.scheme),
        "ls": ":" if start.kernel else "-",
    }


def _weight(start: Start, *, alone: bool) -> dict[str, Any]:
    """The base is drawn wide, pale and below: a trained variant of the same shape is often just as fast."""
    if start.cell.variant == BASE and not alone:
        return {"lw": 3.5, "ms": 11, "alpha": 0.4, "mec": "none", "zorder": 1.5}
    return {"lw": 1.1, "ms": 6, "mec": "white", "mew": 0.6, "zorder": 2.5}


def _handles(study: Study, panels: Sequence[tuple[str, dict[Start, list[Point]]]]) -> list[Any]:
    """A colour for each variant, a marker for each scheme, a dotted line for each forced kernel."""
    shown = {start for _, lines in panels for start in lines}
    named, stored = {start.cell.variant for start in shown}, {start.cell.scheme for start in shown}
    looks = [
        style.handle(v, color=style.colour(study, v), marker="s", ls="", ms=7) for v in variants(study) if v in named
    ]
    grey = {"color": "#888888", "ms": 7}
    looks += [style.handle(s, marker=style.marker(study, s), ls="", **grey) for s in schemes(study) if s in stored]
    forced = sorted({start.kernel for start in shown if start.kernel})
    return looks + [style.handle(f"kernel {name}", ls=":", **grey) for name in forced]


def _plain_ticks(axes: Any, sizes: Sequence[float] = ()) -> None:
    """Numbers as people write them on logarithmic axes, and a tick at each size that was measured."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    if sizes:
        axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
        axes.xaxis.set_minor_locator(NullLocator())

"""Lines over steps, narrow enough for a phone; the page's script reads the values for its tooltip."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gainwatt.report.svg import tag, ticks

MAX_POINTS = 160
WIDTH, HEIGHT = 356, 210


@dataclass(frozen=True)
class Line:
    """One series; `y` holds None where there is no value."""

    name: str
    x: list[float]
    y: list[float | None]
    series: int
    faint: bool = False


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, *, from_zero: bool = False) -> Markup:
    """The drawing; lines that are not faint are read out by the tooltip. Empty where no line has a value."""
    values = [value for line in lines for value in line.y if value is not None]
    if not values:
        return Markup("")
    low, high = (min(0.0, *values) if from_zero else min(values)), max(values)
    room = (high - low or abs(high) or 1.0) * 0.08
    span = (low if from_zero and low == 0 else low - room, high + room)
    steps = [step for line in lines for step in line.x]
    ends = (min(steps), max(*steps, min(steps) + 1))
    return _draw(title, lines, x_label, y_label, span, ends)


def _draw(
    title: str, lines: Sequence[Line], x_label: str, y_label: str, span: tuple[float, float], ends: tuple[float, float]
) -> Markup:  # fmt: skip
    width, height = WIDTH, HEIGHT
    left, right, top, bottom = 46.0, width - 8.0, 26.0, height - 38.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - ends[0]) / (ends[1] - ends[0]) * (right - left),
            bottom - (y - span[0]) / (span[1] - span[0]) * (bottom - top),
        )

    parts = [tag("text", y_label, x=4, y=14, class_="axis-label")]
    for value in ticks(*span, 4):
        y = at(ends[0], value)[1]
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{value:,.6g}".replace("-", "\u2212"), x=left - 6, y=y + 4, class_="tick end"))
    for value in ticks(*ends, 5):
        parts.append(tag("text", f"{value:,.6g}", x=at(value, span[0])[0], y=bottom + 16, class_="tick"))
    parts.append(tag("text", x_label, x=right, y=height - 4, class_="axis-label end"))
    drawn = [_path(line, at) for line in lines]
    cursor = tag("line", x1=left, x2=left, y1=top, y2=bottom, class_="cursor", visibility="hidden")
    data = {
        "frame": [left, right, top, bottom],
        "x": [*ends],
        "xLabel": x_label,
        "lines": [
            {"name": ln.name, "x": ln.x, "y": [None if v is None else float(f"{v:.4g}") for v in ln.y]}
            for ln in lines if not ln.faint
        ],
    }  # fmt: skip
    return tag(
        "svg", tag("title", title), tag("g", *parts, aria_hidden="true"), *drawn, cursor,
        viewBox=f"0 0 {width} {height}", width=width, height=height, tabindex="0", role="img", aria_label=title,
        class_="chart lines", data_lines=json.dumps(data),
    )  # fmt: skip


def _path(line: Line, at: Callable[[float, float], tuple[float, float]]) -> Markup:
    commands, pen_up = [], True
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            pen_up = True
            continue
        px, py = at(x, y)
        commands.append(f"{'M' if pen_up else 'L'}{px:.1f} {py:.1f}")
        pen_up = False
    return tag("path", d="".join(commands), class_=f"line s{line.series % 8}{' faint' if line.faint else ''}")


def thinned(x: list[float], y: list[float | None]) -> tuple[list[float], list[float | None]]:
    """At most MAX_POINTS points, evenly chosen, the last one among them."""
    if len(x) <= MAX_POINTS:
        return x, y
    chosen = sorted({round(i * (len(x) - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)})
    return [x[i] for i in chosen], [y[i] for i in chosen]

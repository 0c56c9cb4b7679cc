"""One kind of chart for everything that compares rows: dots with intervals, or bars, on one horizontal axis.

It is drawn twice, for a wide and for a narrow screen, so that the text keeps its size; the page shows one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from gainwatt.report.svg import cut, tag, ticks

WIDE, NARROW = 880, 340
MAX_ROWS = 60
SHAPES = 4
NEUTRAL = 6
"""The grey series: the base, and what belongs to no single variant. Trained variants come before it."""


@dataclass(frozen=True)
class Mark:
    """A dot at `value` with an interval, or a bar from `low` to `value`; `tip` is what it says when pointed at."""

    value: float
    tip: str
    series: int = 0
    low: float | None = None
    high: float | None = None
    bar: bool = False
    span: tuple[float, float] | None = None
    """The interval of a bar's end."""


@dataclass(frozen=True)
class Row:
    """One line of the chart; `text` stands at its end, in the style of `tone`. A row without marks is a heading."""

    label: str
    marks: tuple[Mark, ...] = ()
    text: str = ""
    tone: str = ""
    heading: bool = False


@dataclass(frozen=True)
class Zone:
    """A shaded stretch of the axis, to the chart's end where `high` is None."""

    low: float
    high: float | None
    kind: str
    label: str = ""


@dataclass
class Axis:
    """The horizontal axis."""

    label: str
    low: float
    high: float
    lines: list[tuple[float, str]] = field(default_factory=list)
    zones: list[Zone] = field(default_factory=list)
    signed: bool = False


@dataclass(frozen=True)
class _Frame:
    """Pixels of a chart."""

    width: int
    left: float
    right: float
    row_px: float
    narrow: bool

    def x(self, value: float, axis: Axis) -> float:
        share = (value - axis.low) / (axis.high - axis.low) if axis.high > axis.low else 0.0
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)


def row_chart(title: str, rows: Sequence[Row], axis: Axis) -> Markup:
    """Both drawings of the chart."""
    rows = rows[:MAX_ROWS]
    longest = max((len(row.text) for row in rows), default=0)
    names = max((len(row.label) for row in rows if not row.heading), default=8)
    left = min(260.0, max(90.0, names * 7.7 + 20))
    wide = _Frame(WIDE, left, WIDE - min(200.0, longest * 7 + 16), 26, narrow=False)
    narrow = _Frame(NARROW, 8, NARROW - 14, 42, narrow=True)
    return _draw(title, rows, axis, wide) + _draw(title, rows, axis, narrow)


def _draw(title: str, rows: Sequence[Row], axis: Axis, frame: _Frame) -> Markup:
    top = 22.0 if axis.zones or axis.lines else 8.0
    y, parts = top, []
    places = []
    for row in rows:
        height = 26.0 if row.heading else frame.row_px
        places.append(y + height)
        y += height
    bottom = y + 6
    back = _background(axis, frame, top, bottom)
    for row, end in zip(rows, places, strict=True):
        parts.append(_row(row, axis, frame, end))
    label = tag("text", axis.label, x=frame.left, y=bottom + 36, class_="axis-label")
    return tag(
        "svg", back, *parts, label, viewBox=f"0 0 {frame.width} {bottom + 44:.0f}", role="group", aria_label=title,
        class_=f"chart {'narrow' if frame.narrow else 'wide'}", width=frame.width, height=int(bottom + 44),
    )  # fmt: skip


def _background(axis: Axis, frame: _Frame, top: float, bottom: float) -> Markup:
    parts = []
    for zone in axis.zones:
        start, end = frame.x(zone.low, axis), frame.x(axis.high if zone.high is None else zone.high, axis)
        parts.append(tag("rect", x=start, y=top, width=end - start, height=bottom - top, class_=f"zone {zone.kind}"))
        if zone.label:
            parts.append(tag("text", zone.label, x=start + 6, y=top - 8, class_=f"zone-label {zone.kind}"))
    for value in ticks(axis.low, axis.high, 4 if frame.narrow else 7):
        x = frame.x(value, axis)
        shown = f"{value:+.10g}" if axis.signed and value else f"{value:,.10g}"
        parts.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(tag("text", shown.replace("-", "\u2212"), x=x, y=bottom + 17, class_="tick"))
    for value, kind in axis.lines:
        x = frame.x(value, axis)
        parts.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=f"rule {kind}"))
    return tag("g", *parts, aria_hidden="true")


def _row(row: Row, axis: Axis, frame: _Frame, end: float) -> Markup:
    if row.heading:
        return tag("text", row.label, x=0 if frame.narrow else 2, y=end - 7, class_="group")
    middle = end - 13
    room = frame.width - len(row.text) * 7.5 - 20 if frame.narrow else frame.left - 14
    label = tag(
        "text", cut(row.label, room), x=frame.left if frame.narrow else frame.left - 12,
        y=end - 27 if frame.narrow else middle + 4, class_="row-label" + ("" if frame.narrow else " end"),
    )  # fmt: skip
    text = tag(
        "text", row.text, x=frame.width - 4 if frame.narrow else frame.right + 12,
        y=end - 27 if frame.narrow else middle + 4,
        class_=f"row-text {row.tone}" + (" end" if frame.narrow else ""),
    )  # fmt: skip
    marks = [_mark(mark, axis, frame, middle) for mark in row.marks]
    if not row.marks and not frame.narrow and row.text:
        text = tag("text", row.text, x=frame.left + 8, y=middle + 4, class_=f"row-text {row.tone}")
    return tag("g", label, text if row.text else "", *marks, class_="row")


def _mark(mark: Mark, axis: Axis, frame: _Frame, y: float) -> Markup:
    colour, x, parts = f"s{mark.series % 8}", frame.x(mark.value, axis), [tag("title", mark.tip)]
    if mark.bar:
        start = frame.x(mark.low if mark.low is not None else axis.low, axis)
        parts.append(tag("rect", x=start, y=y - 7, width=max(1.0, x - start), height=14, rx=2, class_=f"bar {colour}"))
        if mark.span is not None:
            low, high = frame.x(mark.span[0], axis), frame.x(mark.span[1], axis)
            parts.append(tag("path", d=_whisker(low, high, y), class_="whisker ends"))
        return tag("g", *parts, class_="mark", tabindex="0", role="img", aria_label=mark.tip)
    if mark.low is not None and mark.high is not None:
        low, high = frame.x(mark.low, axis), frame.x(mark.high, axis)
        parts.append(tag("rect", x=low - 6, y=y - 11, width=high - low + 12, height=22, class_="hit"))
        parts.append(tag("path", d=_whisker(low, high, y), class_=f"whisker {colour}"))
    parts.append(tag("path", d=symbol(mark.series, x, y), class_=f"dot {colour}"))
    return tag("g", *parts, class_="mark", tabindex="0", role="img", aria_label=mark.tip)


def _whisker(low: float, high: float, y: float) -> str:
    """Path of an interval with its ends."""
    return f"M{low:.1f} {y - 5:.1f}V{y + 5:.1f}M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - 5:.1f}V{y + 5:.1f}"


def symbol(series: int, x: float, y: float) -> str:
    """Path of a series' symbol: disc, square, triangle or diamond, so that colour is not the only difference."""
    shape = 0 if series == NEUTRAL else (series + 1) % SHAPES
    if shape == 0:
        return f"M{x - 5:.1f} {y:.1f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z"
    if shape == 1:
        return f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9Z"
    if shape == 2:
        return f"M{x:.1f} {y - 6:.1f}L{x + 5.5:.1f} {y + 4:.1f}H{x - 5.5:.1f}Z"
    return f"M{x:.1f} {y - 6:.1f}L{x + 6:.1f} {y:.1f}L{x:.1f} {y + 6:.1f}L{x - 6:.1f} {y:.1f}Z"

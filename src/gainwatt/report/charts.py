"""The charts that the report draws itself, each from the rows of one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from gainwatt.report.formats import interval, is_number, joules, number, percent, points, seconds
from gainwatt.report.rowchart import MAX_ROWS, NEUTRAL, Axis, Mark, Row, Zone, row_chart
from gainwatt.study import BASE, Study, schemes, variants

Rows = Sequence[dict[str, Any]]
STATUS_TEXTS = {"oom": "out of memory", "unavailable": "unavailable", "missing": "not measured yet"}


@dataclass
class Chart:
    """A drawn chart: title, what it shows, which table it was drawn from, and its legend as (series, name)."""

    key: str
    title: str
    help: str
    drawing: Markup
    source: str
    legend: list[tuple[int, str]] = field(default_factory=list)
    left_out: int = 0
    tall: bool = True
    stages: tuple[str, ...] = ()


def accuracy(study: Study, rows: Rows) -> Chart | None:
    """Accuracy of every cell with its interval, grouped by scheme, one colour and shape per variant."""
    cells = {(row["variant"], row["precision"]): row for row in rows}
    if not any(is_number(row.get("accuracy")) for row in rows):
        return None
    drawn: list[Row] = []
    for scheme in schemes(study):
        drawn.append(Row(scheme, heading=True))
        for variant in variants(study):
            drawn.append(
                _accuracy_row(
                    variant, series_of(study, variant), scheme, cells.get((variant, scheme), {"status": "missing"})
                )
            )
    ends = [row[key] for row in rows for key in ("accuracy_low", "accuracy_high") if is_number(row.get(key))]
    low = max(0.0, 10 * ((100 * min(ends) - 4) // 10))
    high = min(100.0, -10 * (-(100 * max(ends) + 4) // 10))
    text = f"Dots: accuracy; lines: {100 * study.statistics.confidence:g} % Wilson intervals."
    if low > 0:
        text += f" The axis starts at {low:g} %."
    return Chart(
        "accuracy", "Accuracy by scheme", text,
        row_chart("Accuracy of every cell with its interval", drawn, Axis("accuracy (% of the items)", low, high)),
        "accuracy_matrix", [(series_of(study, variant), variant) for variant in variants(study)[:7]],
        max(0, len(drawn) - MAX_ROWS),
    )  # fmt: skip


def series_of(study: Study, variant: str) -> int:
    """The series of a variant: its colour and symbol are those that it has in the figures."""
    return NEUTRAL if variant == BASE else variants(study)[1:].index(variant) % NEUTRAL


def _accuracy_row(variant: str, series: int, scheme: str, row: dict[str, Any]) -> Row:
    if not is_number(row.get("accuracy")):
        status = str(row.get("status") or "missing")
        return Row(variant, text=STATUS_TEXTS.get(status, status), tone=status)
    value, low, high = (100 * row[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
    tip = (
        f"{variant}, {scheme}: {percent(row['accuracy'])} % [{percent(row['accuracy_low'])}, "
        f"{percent(row['accuracy_high'])}], {number(row['correct'])} of {number(row['num_examples'])} items"
    )
    return Row(variant, (Mark(value, tip, series, low, high),), text=f"{percent(row['accuracy'])} %")


def survival(rows: Rows, margin: float) -> Chart | None:
    """Survival of the gain with its interval; the stretch above minus the margin is shaded."""
    if not rows:
        return None
    shown = []
    for row in rows:
        change = interval(row["gain_survival_low"], row["gain_survival_high"])
        tip = f"{row['scheme']}, {row['variants']}: {points(row['gain_survival'])} points {change}: {row['verdict']}"
        mark = Mark(100 * row["gain_survival"], tip, NEUTRAL, 100 * row["gain_survival_low"],
                    100 * row["gain_survival_high"])  # fmt: skip
        shown.append(Row(f"{row['scheme']} · {_short(row['variants'])}", (mark,), row["verdict"], row["verdict"]))
    widest = max(abs(100 * row[key]) for row in rows for key in ("gain_survival_low", "gain_survival_high"))
    limit = max(1.15 * max(widest, 100 * margin), 1.0)
    zones = [Zone(-100 * margin, None, "safe", f"survives: wholly right of −{100 * margin:g}")]
    axis = Axis("change of the gain under the scheme (points)", -limit, limit,
                [(0.0, "zero"), (-100 * margin, "margin")], zones, signed=True)  # fmt: skip
    return Chart(
        "gain_survival", "Survival of the gain",
        "Zero: nothing of the gain was lost. A gain survives where its whole interval is in the shaded part.",
        row_chart("Survival of the gain with its interval and the margin", shown, axis), "gain_survival",
        left_out=max(0, len(rows) - MAX_ROWS),
    )  # fmt: skip


def _short(variants_: str) -> str:
    names = variants_.split("+")
    return variants_ if len(names) == 1 else f"{len(names)} seeds"


_COSTS = (
    ("gross_j_per_correct", "Energy per correct answer", "J per correct answer", joules),
    ("s_per_correct", "Time per correct answer", "seconds per correct answer", seconds),
)


def costs(study: Study, rows: Rows) -> list[Chart]:
    """One bar chart per kind of cost that was measured: joules (net within gross), seconds.

    Dollars are the same numbers times a price, so they are in the table only.
    """
    charts = []
    for key, title, axis_label, text_of in _COSTS:
        known = [row for row in rows if is_number(row.get(key))]
        if not known:
            continue
        drawn: list[Row] = []
        for scheme in schemes(study):
            of_scheme = [row for row in rows if row["scheme"] == scheme]
            drawn += [Row(scheme, heading=True)] if of_scheme else []
            drawn += [_cost_row(row, key, text_of) for row in of_scheme]
        highest = max(max(row[key], row.get(f"{key}_high") or 0.0) for row in known)
        axis = Axis(axis_label, 0.0, 1.04 * highest)
        net = key == "gross_j_per_correct" and any(is_number(row.get("net_j_per_correct")) for row in known)
        legend = [(0, "net"), (1, "idle power × time")] if net else []
        charts.append(
            Chart(f"cost_{key}", title, "", row_chart(title, drawn, axis), "cost_per_correct", legend,
                  max(0, len(drawn) - MAX_ROWS))
        )  # fmt: skip
    return charts


def _cost_row(row: dict[str, Any], key: str, text_of: Any) -> Row:
    value, net = row.get(key), row.get("net_j_per_correct")
    if not is_number(value):
        return Row(row["variant"], text="not measured", tone="missing")
    text, name = text_of(value), f"{row['variant']}, {row['scheme']}"
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    ends = (low, high) if is_number(low) and is_number(high) else None
    interval_text = f" [{text_of(low)}, {text_of(high)}]" if ends else ""
    if key == "gross_j_per_correct" and is_number(net) and net >= 0:
        return Row(
            row["variant"],
            (
                Mark(net, f"{name}: net {joules(net)} per correct answer", 0, 0.0, bar=True),
                Mark(value, f"{name}: gross {text}{interval_text}, of it idle power × time {joules(value - net)}", 1,
                     net, bar=True, span=ends),
            ),
            text,
        )  # fmt: skip
    tip = f"{name}: {text} per correct answer{interval_text}"
    return Row(row["variant"], (Mark(value, tip, 0, 0.0, bar=True, span=ends),), text)


def energy(rows: Rows) -> Chart | None:
    """Joules of every job, or of every stage where there are many jobs; net energy and the idle part told apart."""
    known = [row for row in rows if is_number(row.get("gross_j"))]
    if not known:
        return None
    bars: list[tuple[str, str, float, float | None]] = []
    if len(known) <= MAX_ROWS // 2:
        bars = [(row["stage"], row["cell"], row["gross_j"], row.get("net_j")) for row in known]
    else:
        for stage in dict.fromkeys(row["stage"] for row in known):
            of_stage = [row for row in known if row["stage"] == stage]
            nets = [row.get("net_j") for row in of_stage]
            net = None if None in nets else sum(value for value in nets if value is not None)
            bars.append((stage, f"{len(of_stage)} jobs", sum(row["gross_j"] for row in of_stage), net))
    drawn: list[Row] = []
    for place, (stage, cell, gross, net) in enumerate(bars):
        if place == 0 or bars[place - 1][0] != stage:
            drawn.append(Row(stage, heading=True))
        drawn.append(_energy_row(cell, gross, net))
    return Chart(
        "energy", "Energy of the jobs", "Gross energy; the lighter part is idle power times seconds.",
        row_chart("Energy of the jobs", drawn, Axis("gross energy (J)", 0.0, 1.04 * max(b[2] for b in bars))),
        "energy_by_job", [(0, "net"), (1, "idle power × time")], stages=("*",),
    )  # fmt: skip


def _energy_row(cell: str, gross: float, net: float | None) -> Row:
    if not is_number(net) or net is None or net < 0:
        mark = Mark(gross, f"{cell}: gross {joules(gross)}; net not known", 1, 0.0, bar=True)
        return Row(cell, (mark,), joules(gross).partition(" (")[0])
    return Row(
        cell,
        (
            Mark(net, f"{cell}: net {joules(net)}", 0, 0.0, bar=True),
            Mark(gross, f"{cell}: gross {joules(gross)}, idle power × time {joules(gross - net)}", 1, net, bar=True),
        ),
        joules(gross).partition(" (")[0],
    )  # fmt: skip

"""Training curves of the report: reward, length, share of cut rollouts, groups without signal."""

from __future__ import annotations

from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.report.charts import Chart
from gainwatt.report.linechart import Line, line_chart, thinned
from gainwatt.tables.results import read_sidecar

MAX_RUNS = 8
WINDOW = 10
PANELS = (
    ("reward", "Reward", "mean reward", False),
    ("completion_tokens_mean", "Completion length", "tokens", True),
    ("clipped_ratio", "Rollouts cut by the limit", "share of rollouts", True),
    ("frac_reward_zero_std", "Groups without signal", "share of groups", True),
)


def curves(records: list[Record]) -> tuple[list[Chart], list[str]]:
    """One panel per quantity, one line per training seed; and why a record's steps could not be drawn."""
    runs, reasons = {}, []
    for record in records[:MAX_RUNS]:
        name = record["cell"].get("variant", record["file"])
        if record["status"] != "ok":
            reasons.append(f"{name}: {record['status']}: {record.get('reason')}")
            continue
        try:
            runs[name] = read_sidecar(record, "steps")
        except RecordError as error:
            reasons.append(error.what)
    if len(records) > MAX_RUNS:
        reasons.append(f"{len(records) - MAX_RUNS} more training runs are in the table only")
    charts = [chart for chart in (_panel(runs, *panel) for panel in PANELS) if chart is not None]
    return charts, reasons


def _panel(runs: dict[str, dict[str, list[Any]]], key: str, title: str, unit: str, from_zero: bool) -> Chart | None:
    lines: list[Line] = []
    for place, (name, columns) in enumerate(runs.items()):
        if key not in columns or "step" not in columns:
            continue
        steps = [float(step) for step in columns["step"]]
        raw: list[float | None] = [None if value is None else float(value) for value in columns[key]]
        lines.append(Line(name, *thinned(steps, raw), place, faint=True))
        lines.append(Line(name, *thinned(steps, running_mean(raw)), place))
    drawing = line_chart(f"{title} over training", lines, "optimizer step", unit, from_zero=from_zero)
    if not drawing:
        return None
    legend = [(place, name) for place, name in enumerate(runs)]
    return Chart(
        f"training_{key}", title, f"Thin: each step; thick: mean of the last {WINDOW}.", drawing, "", legend,
        tall=False, stages=("train_grpo",),
    )  # fmt: skip


def running_mean(values: list[float | None], width: int = WINDOW) -> list[float | None]:
    """Mean of each value and the up to `width` - 1 values before it, nulls left out; null where all are."""
    found: list[float | None] = []
    for end in range(1, len(values) + 1):
        window = [value for value in values[max(0, end - width) : end] if value is not None]
        found.append(sum(window) / len(window) if window else None)
    return found

"""Numbers of the profile formed as other projects define them, beside ours, all from the same windows and samples.

Each project's definition is taken as it is, also where it measures something else than its name says: that is what
its numbers must be compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gainwatt.tables.profile import MIB, cells
from gainwatt.tables.results import Results

Row = dict[str, Any]
NOMINAL_S = 5.0
"""Seconds that the telemetry of Energy-Aware-LLM-Inference takes every measurement to last."""


@dataclass(frozen=True)
class Totals:
    """Sums over a cell's windows. Watts and joules are None where a window has none."""

    seconds: float
    calls: int
    tokens: float
    batch: int
    sampled_w: float | None
    trapezoid_j: float | None
    idle_w: float | None
    gross_j: float | None

    @property
    def latency_s(self) -> float:
        """Mean seconds of a batch."""
        return self.seconds / self.calls

    @property
    def tokens_per_call(self) -> float:
        """Generated tokens of a batch."""
        return self.tokens / self.calls


@dataclass(frozen=True)
class Definition:
    """One published quantity: who defines it, its unit and formula, the formula itself, and our column beside it."""

    source: str
    quantity: str
    unit: str
    formula: str
    value: Callable[[Totals, Row], float | None]
    ours: str
    ours_value: Callable[[Totals, Row], float | None]


POWERBENCH = "powerbench"
CONSUMER = "Energy-Aware-LLM-Inference-on-Consumer-Hardware"
ARTICLE = "Benchmarks and Optimization: From 48GB GPU to 8GB RTX"
MEMO = "ecocompute-dynamic-eval, dataset memo"
HARDWARE = "ecocompute-dynamic-eval, hardware profile"
MLCUBE = "ecocompute-mlcube"


def totals(cell: Row) -> Totals:
    """Sums over the windows of a measured cell."""
    windows = cell["windows"]
    seconds = sum(window["seconds"] for window in windows)

    def weighted(name: str) -> float | None:
        values = [window[name] for window in windows]
        if any(value is None for value in values):
            return None
        return sum(value * window["seconds"] for value, window in zip(values, windows, strict=True)) / seconds

    def summed(name: str) -> float | None:
        values = [window[name] for window in windows]
        return None if any(value is None for value in values) else sum(values)

    return Totals(
        seconds=seconds,
        calls=sum(window["calls"] for window in windows),
        tokens=sum(window["work"] for window in windows),
        batch=cell["batch"],
        sampled_w=weighted("sampled_w"),
        trapezoid_j=summed("trapezoid_j"),
        idle_w=weighted("idle_w"),
        gross_j=summed("gross_j"),
    )


def times(*factors: float | None) -> float | None:
    """Product; None where a factor is unknown."""
    product = 1.0
    for factor in factors:
        if factor is None:
            return None
        product *= factor
    return product


def _gross_per_call(t: Totals, cell: Row) -> float | None:
    return times(t.gross_j, 1 / t.calls)


def _before_run_j(t: Totals) -> float | None:
    """Their telemetry ran for five seconds before the work began: idle power times five seconds."""
    return times(t.idle_w, NOMINAL_S)


def _column(name: str) -> Callable[[Totals, Row], float | None]:
    return lambda t, cell: cell.get(name)


def _peak(t: Totals, cell: Row) -> float | None:
    peaks = [cell.get("load_peak_mib"), cell.get("generate_peak_mib")]
    known = [value for value in peaks if value is not None]
    return max(known) if len(known) == len(peaks) else None


DEFINITIONS = (
    Definition(
        POWERBENCH, "energy of a batch", "J", "mean of the power samples above 0 × wall time",
        lambda t, c: times(t.sampled_w, t.latency_s), "gross_j per batch", _gross_per_call,
    ),
    Definition(
        POWERBENCH, "tokens_per_second", "tokens/s", "batch × output tokens / mean latency",
        lambda t, c: t.tokens_per_call / (c["latency_ms_mean"] / 1000), "throughput_tok_s", _column("throughput_tok_s"),
    ),
    Definition(
        POWERBENCH, "model size", "MB (2^20 B)", "largest allocated memory since the process began",
        _peak, "used_bytes / 2^20", lambda t, c: times(c["used_bytes"], 1 / MIB),
    ),
    Definition(
        CONSUMER, "energy_joules", "J", "mean power in the 5 s before the run × 5.0 s",
        lambda t, c: _before_run_j(t), "gross_j per batch", _gross_per_call,
    ),
    Definition(
        CONSUMER, "energy_joules, sampled in the run", "J", "mean power during the run × 5.0 s",
        lambda t, c: times(t.sampled_w, NOMINAL_S), "gross_j per batch", _gross_per_call,
    ),
    Definition(
        CONSUMER, "energy per token (first report)", "J/token", "energy_joules / tokens",
        lambda t, c: times(_before_run_j(t), 1 / t.tokens_per_call), "gross_j_per_ktok / 1000",
        lambda t, c: times(c["gross_j_per_ktok"], 1 / 1000),
    ),
    Definition(
        CONSUMER, "energy per prompt (second report)", "J", "energy_joules / prompts",
        lambda t, c: times(_before_run_j(t), 1 / t.batch), "gross_j_per_request", _column("gross_j_per_request"),
    ),
    Definition(
        CONSUMER, "EDP (first report)", "J·ms/token²", "(energy_joules / tokens) × (ms / token)",
        lambda t, c: times(_before_run_j(t), 1 / t.tokens_per_call, 1000 * t.latency_s / t.tokens_per_call),
        "(gross_j / tokens) × (ms / token)",
        lambda t, c: times(t.gross_j, 1 / t.tokens, 1000 * t.latency_s / t.tokens_per_call),
    ),
    Definition(
        CONSUMER, "EDP (second report)", "J·s", "energy_joules × latency",
        lambda t, c: times(_before_run_j(t), t.latency_s), "gross_j per batch × latency",
        lambda t, c: times(_gross_per_call(t, c), t.latency_s),
    ),
    Definition(
        CONSUMER, "tokens_generated / latency", "words/s", "words of the printed text / latency",
        lambda t, c: times(c["words_per_call"], 1 / t.latency_s), "throughput_tok_s", _column("throughput_tok_s"),
    ),
    Definition(
        ARTICLE, "throughput_per_sec", "1/s", "1000 / mean latency in ms × batch size",
        lambda t, c: 1000 / c["latency_ms_mean"] * t.batch, "requests_s", _column("requests_s"),
    ),
    Definition(
        ARTICLE, "model_size_mb", "MB (2^20 B)", "sum of element count × element size over the parameters",
        lambda t, c: times(c["parameter_bytes"], 1 / MIB), "used_bytes / 2^20",
        lambda t, c: times(c["used_bytes"], 1 / MIB),
    ),
    Definition(
        MEMO, "energy per 1k tokens", "J/1k tokens", "(mean power − idle power) × 1000 / throughput",
        lambda t, c: None if t.sampled_w is None or t.idle_w is None
        else (t.sampled_w - t.idle_w) * 1000 * t.seconds / t.tokens,
        "net_j_per_ktok", _column("net_j_per_ktok"),
    ),
    Definition(
        HARDWARE, "energy per 1k tokens", "J/1k tokens", "mean power × time / tokens × 1000",
        lambda t, c: times(t.sampled_w, t.seconds, 1000 / t.tokens), "gross_j_per_ktok", _column("gross_j_per_ktok"),
    ),
    Definition(
        HARDWARE, "energy per request", "J", "mean power × time / requests",
        lambda t, c: times(t.sampled_w, t.seconds, 1 / (t.calls * t.batch)), "gross_j_per_request",
        _column("gross_j_per_request"),
    ),
    Definition(
        MLCUBE, "energy per 1k tokens", "J/1k tokens", "trapezoid over 10 samples a second / tokens × 1000",
        lambda t, c: times(t.trapezoid_j, 1000 / t.tokens), "gross_j_per_ktok", _column("gross_j_per_ktok"),
    ),
)  # fmt: skip


def definitions(results: Results) -> list[Row]:
    """One row per measured cell and published quantity: its value by that definition, ours, and value / ours."""
    rows = []
    for found in cells(results, ok=True):
        whole = totals(found.cell)
        for definition in DEFINITIONS:
            value = definition.value(whole, found.cell)
            ours = definition.ours_value(whole, found.cell)
            rows.append(
                found.place()
                | {
                    "source": definition.source,
                    "quantity": definition.quantity,
                    "unit": definition.unit,
                    "formula": definition.formula,
                    "value": value,
                    "ours": definition.ours,
                    "ours_value": ours,
                    "value_over_ours": value / ours if value is not None and ours else None,
                    "null_reason": None if value is not None and ours is not None else _why(found.cell),
                }
            )
    return rows


def _why(cell: Row) -> str:
    reasons = cell["null_reasons"]
    names = ("gross_j_per_ktok", "net_j_per_ktok", "generate_peak_mib")
    return "; ".join(dict.fromkeys(reasons[name] for name in names if name in reasons)) or "no sample of power"

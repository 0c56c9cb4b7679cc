"""The numbers of one cell (an arm under a load), each with its unit in its name and, where it is null, its reason."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gainwatt.energy.protocol import ArmResult
from gainwatt.energy.stats import spread
from gainwatt.profiling.arms import LoadedArm
from gainwatt.profiling.generate import Timing
from gainwatt.profiling.roofs import limits_of, roofs
from gainwatt.profiling.trial import COMPILED, Trial
from gainwatt.schemes import get_scheme
from gainwatt.serving.percentiles import percentile
from gainwatt.study.profiling_cells import Arm, Load

Cell = dict[str, Any]
Limits = dict[str, Any]
NO_GPU = "no GPU: torch counts allocated memory on GPUs only"
ONE_TOKEN = "one new token: there is no decoding step"  # noqa: S105
PHASE_SAMPLES = 5
"""A phase must last this many samples of power on average, or the neighbours' power is in its joules."""


class Numbers(dict[str, Any]):
    """A cell in the making: `put` takes a value, or None with its reason."""

    def __init__(self, arm: Arm, load: Load, *, baseline: bool) -> None:
        super().__init__({**arm.as_dict(), "baseline": baseline, **load.as_dict(), "status": "ok", "reason": None})
        self.reasons: dict[str, str] = {}

    def put(self, name: str, value: float | str | None, reason: str | None = None) -> None:
        """Keep a number; None needs its reason."""
        self[name] = value
        if value is None:
            self.reasons[name] = reason or "not measured"

    def done(self) -> Cell:
        """The cell as plain JSON values."""
        return {**self, "null_reasons": self.reasons}


def failed_cell(arm: Arm, load: Load, *, baseline: bool, status: str, reason: str | None) -> Cell:
    """A cell that did not fit or cannot run here: a row all the same."""
    cell = Numbers(arm, load, baseline=baseline).done()
    return {**cell, "status": status, "reason": reason, "windows": []}


def measured_cell(
    loaded: LoadedArm,
    load: Load,
    trial: Trial,
    result: ArmResult,
    calls: Sequence[Timing],
    windows: list[dict[str, Any]],
    phases: dict[str, dict[str, Any]],
    limits: Limits,
    *,
    baseline: bool,
) -> Cell:
    """All numbers of a cell. `calls` are those of the windows; `phases` the totals of prefill and decode in them."""
    cell = Numbers(loaded.arm, load, baseline=baseline)
    _times(cell, load, calls, result)
    _energies(cell, load, result, windows, phases)
    _memory(cell, loaded, trial)
    _kernels(cell, loaded, load, trial)
    roofs(cell, loaded, load, trial, limits_of(limits, loaded.dtype))
    cell["dtype"] = loaded.dtype
    cell["gates"] = [asdict(gate) for gate in result.gates]
    cell["flags"] = sorted({flag for window in windows for flag in window["flags"]})
    cell["windows"] = windows
    return cell.done()


def _times(cell: Numbers, load: Load, calls: Sequence[Timing], result: ArmResult) -> None:
    cell["n_calls"], cell["n_windows"] = len(calls), len(result.windows)
    for name, values in (("latency", [c.latency_s for c in calls]), ("ttft", [c.ttft_s for c in calls])):
        ordered = sorted(1000 * value for value in values)
        cell[f"{name}_ms_mean"] = statistics.fmean(ordered)
        for level in (50, 95, 99):
            cell[f"{name}_ms_p{level}"] = percentile(ordered, level)
        cell.put(f"{name}_cv", spread(ordered).cv, "one call has no spread")
    waiting = iter(calls)
    per_window = spread(
        [statistics.fmean(1000 * next(waiting).latency_s for _ in range(w.calls)) for w in result.windows]
    )
    cell.put("latency_ms_low", per_window.low, "one window has no interval")
    cell.put("latency_ms_high", per_window.high, "one window has no interval")
    steps = load.new_tokens - 1
    ttft, whole = sum(c.ttft_s for c in calls), sum(c.latency_s for c in calls)
    cell["prefill_tok_s"] = len(calls) * load.batch * load.prompt_tokens / ttft
    cell.put("tpot_ms_mean", 1000 * (whole - ttft) / (len(calls) * steps) if steps else None, ONE_TOKEN)
    cell.put("decode_tok_s", len(calls) * load.batch * steps / (whole - ttft) if steps else None, ONE_TOKEN)
    _spread(cell, "throughput_tok_s", result.throughput)
    cell["requests_s"] = load.batch * len(calls) / whole


def _spread(cell: Numbers, name: str, found: Any, factor: float = 1.0, reason: str | None = None) -> None:
    """A mean with the ends of its interval and its coefficient of variation over the windows."""
    for end, value in (("", found.mean), ("_low", found.low), ("_high", found.high)):
        why = reason if found.mean is None else "one window has no interval"
        cell.put(f"{name}{end}", None if value is None else factor * value, why)
    cell.put(f"{name}_cv", found.cv, reason if found.mean is None else "one window has no spread")


def _energies(
    cell: Numbers, load: Load, result: ArmResult, windows: list[dict[str, Any]], phases: dict[str, dict[str, Any]]
) -> None:
    gross_why = next((w["reason"] for w in windows if w["gross_j"] is None), None)
    net_why = gross_why or next((w["net_reason"] for w in windows if w["net_j"] is None), None)
    _spread(cell, "gross_j_per_ktok", result.gross_j_per_work, 1000, gross_why)
    _spread(cell, "net_j_per_ktok", result.net_j_per_work, 1000, net_why)
    _spread(cell, "mean_w", result.power_w, 1, gross_why)
    gross, net = result.gross_j_per_work.mean, result.net_j_per_work.mean
    per_request = None if gross is None else gross * load.new_tokens
    cell.put("gross_j_per_request", per_request, gross_why)
    cell.put("net_j_per_request", None if net is None else net * load.new_tokens, net_why)
    cell.put("tokens_per_gross_j", 1 / gross if gross else None, gross_why or "no joule was used")
    cell.put("tokens_per_net_j", 1 / net if net else None, net_why or "no joule was used above idle")
    edp = None if per_request is None else per_request * cell["latency_ms_mean"] / 1000
    cell.put("edp_js", edp, gross_why)
    tokens = {"prefill": load.prompt_tokens, "decode": load.new_tokens - 1}
    for name, each in tokens.items():
        total = phases.get(name, {})
        joules, why = total.get("gross_j"), total.get("reason") or ONE_TOKEN
        count = cell["n_calls"] * load.batch * each
        cell.put(f"{name}_gross_j_per_ktok", 1000 * joules / count if joules is not None and count else None, why)


def _memory(cell: Numbers, loaded: LoadedArm, trial: Trial) -> None:
    cell["parameters"] = loaded.shape.parameters if loaded.shape else None
    if loaded.shape is None:
        cell.reasons["parameters"] = loaded.shape_reason or "the model's shape is not known"
    cell["parameter_bytes"] = loaded.parameter_bytes
    cell["used_bytes"] = trial.used_bytes
    cell["disk_bytes"] = loaded.checkpoint.weight_bytes
    cell["load_s"] = loaded.load_s
    cell.put("allocated_after_load_mib", loaded.after_load_mib, NO_GPU)
    cell.put("load_peak_mib", loaded.load_peak_mib, NO_GPU)
    cell.put("prefill_peak_mib", trial.prefill_peak_mib, NO_GPU)
    cell.put("decode_peak_mib", trial.decode_peak_mib, NO_GPU if trial.prefill_peak_mib is None else ONE_TOKEN)
    peaks = [value for value in (trial.prefill_peak_mib, trial.decode_peak_mib) if value is not None]
    cell.put("generate_peak_mib", max(peaks, default=None), NO_GPU)


def _kernels(cell: Numbers, loaded: LoadedArm, load: Load, trial: Trial) -> None:
    loader = get_scheme(loaded.arm.scheme).loader("transformers")
    cell["kernel_path"] = loader.kernel if loader else None
    cell["layers"] = trial.layers
    cell["words_per_call"] = trial.words
    assert trial.first_call_s is not None  # noqa: S101 - a trial that ended well has both
    assert trial.second_call_s is not None  # noqa: S101
    cell["first_call_extra_s"] = max(0.0, trial.first_call_s - trial.second_call_s)
    compiled = loaded.arm.mode in COMPILED
    cell.put("compile_s", cell["first_call_extra_s"] if compiled else None, "this mode compiles nothing")
    seen, why = trial.look, trial.look_reason
    cell.put("kernels", ", ".join(seen.kernels) if seen else None, why)
    no_gpu = why or "no GPU: kernels are timed on GPUs only"
    for name, value in (
        ("prefill_launches", seen.prefill_launches if seen else None),
        ("step_launches", seen.step_launches if seen else None),
        ("prefill_device_s", seen.prefill_device_s if seen else None),
        ("step_device_s", seen.step_device_s if seen else None),
    ):
        one = load.new_tokens == 1 and name.startswith("step")
        cell.put(name, value, ONE_TOKEN if one else no_gpu if "device" in name else why)
    cell.put("graph_launches", seen.graph_launches if seen else None, why)

"""The metrics of one cell: counts, speed, latency, energy, roofs and memory, from what its windows saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gainwatt.energy.protocol import ArmResult
from gainwatt.serving.energy import Idle, Numbers, Part, energy_numbers, protocol, speed_numbers
from gainwatt.serving.offline import OfflineRun, OfflineWindow
from gainwatt.serving.percentiles import percentiles
from gainwatt.serving.roofs import Roofs

LATENCY_LEVELS = ("mean", "p50", "p90", "p95", "p99", "max")


def offline_parts(windows: Sequence[OfflineWindow], phases: Sequence[dict[str, Any]]) -> list[Part]:
    """Windows with the joules of their phases, which come in the same order; an unfinished last phase has no window.

    The seconds are those of the phase, so that joules and seconds belong together.
    """
    return [
        Part(
            seconds=phase["seconds"],
            tokens=window.generated_tokens,
            prompt_tokens=window.prompt_tokens,
            firsts=window.requests,
            requests=window.requests,
            gross_j=phase["energy"]["gross_j"],
            flags=tuple(phase["energy"]["flags"]),
            reason=phase["energy"].get("reason"),
        )
        for window, phase in zip(windows, phases, strict=False)
    ]


def offline_numbers(
    run: OfflineRun, phases: Sequence[dict[str, Any]], idle: Idle, roofs: Roofs, *, batch: int,
    weight_bytes: float | None,
) -> tuple[Numbers, ArmResult]:  # fmt: skip
    """Metrics of a cell without a server, and the protocol's view of its windows."""
    measured = offline_parts(run.measure, [p for p in phases if p["path"] == "measure"])
    alone = offline_parts(run.prefill, [p for p in phases if p["path"] == "prefill"])
    found = _counts(run.measure)
    latencies = [value for window in run.measure for value in window.latencies_s]
    no_latency = "the engine does not tell when an answer ended" if run.measure else "no window was finished"
    for level, value in percentiles(latencies).items():
        found.put(f"latency_{level}_s", value, no_latency)
    for level, value in percentiles(s for window in run.measure for s in window.batches_s).items():
        if level in ("p50", "p95"):
            found.put(f"batch_latency_{level}_s", value, "no window was finished")
    spread = protocol("measure", measured, idle)
    add(found, repeat_numbers(spread))
    speeds = speed_numbers(measured, alone)
    add(found, speeds)
    add(found, energy_numbers(measured, alone, idle))
    add(found, _roof_numbers(found, roofs, batch, weight_bytes))
    return found, spread


def _roof_numbers(found: Numbers, roofs: Roofs, batch: int, weight_bytes: float | None) -> Numbers:
    return roofs.numbers(
        batch=batch,
        prompt_tokens=found.metrics["prompt_tokens_mean"] or 0.0,
        new_tokens=found.metrics["new_tokens_mean"] or 0.0,
        weight_bytes=weight_bytes,
        decode_tok_s=found.metrics["decode_tok_s"],
        prefill_tok_s=found.metrics["prefill_tok_s"],
    )


def _counts(windows: Sequence[OfflineWindow]) -> Numbers:
    found = Numbers()
    requests, tokens = sum(w.requests for w in windows), sum(w.generated_tokens for w in windows)
    seconds, prompt = math.fsum(w.seconds for w in windows), sum(w.prompt_tokens for w in windows)
    none = "no window was finished"
    found.put("windows", len(windows))
    found.put("passes", sum(w.passes for w in windows))
    found.put("num_prompts", requests)
    found.put("num_batches", sum(len(w.batches_s) for w in windows))
    found.put("prompt_tokens", prompt)
    found.put("generated_tokens", tokens)
    found.put("wall_time_s", seconds)
    found.put("throughput_tok_s", tokens / seconds if seconds else None, none)
    found.put("requests_per_s", requests / seconds if seconds else None, none)
    found.put("prompt_tokens_mean", prompt / requests if requests else None, none)
    found.put("new_tokens_mean", tokens / requests if requests else None, none)
    found.put("cut_share", sum(w.cut for w in windows) / requests if requests else None, none)
    return found


def repeat_numbers(spread: ArmResult) -> Numbers:
    """Coefficients of variation and 95 % intervals over the windows; null with fewer than two."""
    found = Numbers()
    few = "an interval needs two windows"
    for name, values in (("throughput_tok_s", spread.throughput), ("gross_j_per_token", spread.gross_j_per_work)):
        why = few if values.n else "no window has this number"
        found.put(f"{name}_low", values.low, why)
        found.put(f"{name}_high", values.high, why)
    found.put("throughput_cv", spread.throughput.cv, few)
    found.put("power_cv", spread.power_w.cv, few if spread.power_w.n else "no window has joules")
    found.put("gates_passed", all(gate.passed is not False for gate in spread.gates) if spread.windows else None, few)
    return found


def facts_numbers(facts: dict[str, Any], startup_s: float | None, board_mib: float | None, why: str | None) -> Numbers:
    """Memory in parts and the largest concurrency that fits, from what the engine says of itself."""
    found, told = Numbers(), facts["null_reasons"]
    for part in ("weights", "kv_cache", "activations", "reserved"):
        found.put(f"memory_{part}_mib", facts["memory_mib"][part], told.get(f"memory_mib.{part}"))
    for name in ("kv_cache_tokens", "max_concurrency", "max_num_seqs", "max_model_len"):
        found.put(name, facts[name], told.get(name))
    found.put("board_memory_used_mib", board_mib, why or "NVML does not tell the memory in use")
    found.put("startup_s", startup_s, "the engine did not come up")
    return found


def add(found: Numbers, more: Numbers) -> None:
    """Take up further metrics with their reasons."""
    found.metrics |= more.metrics
    found.reasons |= more.reasons


def tell(metrics: dict[str, Any], reasons: dict[str, str], found: Numbers) -> None:
    """Put numbers into a job's metrics and reasons."""
    metrics.update(found.metrics)
    reasons.update(found.reasons)

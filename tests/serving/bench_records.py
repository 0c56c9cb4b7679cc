"""Synthetic records of the serving benchmark: a whole grid with consistent numbers, for tables, figures and checks."""

from __future__ import annotations

from typing import Any

from factories import base_record, energy_of, phases_of
from gainwatt.record import text_sha256, write_record
from gainwatt.schemes import get_scheme
from gainwatt.serving.columns import Numbers, add, repeat_numbers
from gainwatt.serving.energy import Idle, Part, energy_numbers, protocol, speed_numbers
from gainwatt.study import Cell, Layout, Study
from gainwatt.study.serving_cells import STAGE, Load, Start, loads, served_cells, starts

SERVE: dict[str, Any] = {
    "engine": "vllm",
    "repeats": 5,
    "offline": {"batch_sizes": [16, 64, 256]},
    "online": {"concurrency": [1, 16, 64], "rates_per_s": [2.0, 8.0], "capacity": True},
}
IDLE = Idle(at_rest_w=80.0, loaded_w=120.0, reason=None)
BOUNDARY = {"boundary": ["gpu_board"], "null_reasons": {}}


def write_grid(study: Study) -> list[str]:
    """Every record of the study's benchmark; returns the names of the cells' records."""
    names = []
    for cell in served_cells(study):
        for start in starts(study, cell):
            _write_start(study, start)
            for load in loads(study.serve, start.mode):
                names.append(start.record_name(load))
                _write_cell(study, start, load)
        about = {"variant": cell.variant, "scheme": cell.scheme, "engine": study.serve.engine, "load": "all"}
        metrics = {"cells": 1, "cells_ok": 1, "cells_oom": 0, "cells_unavailable": 0, "cells_failed": 0}
        _write(study, cell, cell.name, about, metrics=metrics)
    return names


def _write(study: Study, cell: Cell, name: str, about: dict[str, str], **parts: Any) -> None:
    dense = get_scheme(cell.scheme).dense
    settings = study.settings(STAGE) | parts.pop("more_settings", {})
    record = base_record(study, STAGE, about, settings=settings, **parts)
    sha = text_sha256(f"dense {cell.variant}" if dense else cell.name)
    parent = None if dense else text_sha256(f"dense {cell.variant}")
    record["inputs"]["checkpoint"] = {"sha256": sha, "parent_sha256": parent}
    write_record(Layout.of(study).record(STAGE, name), record)


def _about(study: Study, start: Start, load: str) -> dict[str, str]:
    about = {"variant": start.cell.variant, "scheme": start.cell.scheme, "engine": study.serve.engine, "load": load}
    return about | ({"kernel": start.kernel} if start.kernel else {})


def facts_of(start: Start) -> dict[str, Any]:
    """What vLLM would say of itself."""
    dense = get_scheme(start.cell.scheme).dense
    memory = {"weights": 990.0 if dense else 460.0, "kv_cache": 90000.0, "activations": 1500.0, "reserved": 110000.0}
    return {
        "engine": "vllm", "engine_version": "0.25.1", "dtype": "bf16", "quantization": None if dense else "awq",
        "quantization_kernel": None if dense else {"AWQ": "MacheteLinearKernel"}, "quantization_as_asked": None,
        "attention_backend": "FLASH_ATTN", "cuda_graphs": "FULL_AND_PIECEWISE", "max_model_len": 2048,
        "max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_concurrency": 3700.5, "kv_cache_tokens": 7_578_624,
        "memory_mib": memory, "null_reasons": {}, "startup_s": 41.5,
    }  # fmt: skip


def _memory(facts: dict[str, Any]) -> dict[str, Any]:
    found = {f"memory_{name}_mib": value for name, value in facts["memory_mib"].items()}
    names = ("kv_cache_tokens", "max_concurrency", "max_num_seqs", "max_model_len", "startup_s")
    return found | {name: facts[name] for name in names} | {"board_memory_used_mib": 112000.0}


def _write_start(study: Study, start: Start) -> None:
    energy = energy_of({"load": (41.5, 6000.0, 2680.0)}) | BOUNDARY
    energy["devices"] = [{"device": "gpu:0", "method": "counter", "idle_before_w": 80.0, "idle_after_w": 120.0}]
    facts = facts_of(start)
    _write(
        study, start.cell, start.name, _about(study, start, f"start-{start.mode}"), metrics=_memory(facts),
        energy=energy, phases=phases_of(energy), more_settings={"facts": facts},
    )  # fmt: skip


def _speed(start: Start, size: float) -> float:
    """Tokens/s: linear in the batch at first, bending at a ceiling; quantized ones are slower in large batches."""
    dense = get_scheme(start.cell.scheme).dense
    one, ceiling = (900.0, 60000.0) if dense else (780.0, 42000.0)
    return size * one / (1 + size * one / ceiling) * (0.5 if start.kernel else 1.0)


def _parts(load: Load, speed: float, prompt: float, new: float) -> tuple[list[Part], list[Part]]:
    measured, alone = [], []
    for repeat in range(5):
        seconds = 5.2 + 0.01 * repeat
        tokens = speed * seconds * (1 + 0.002 * (repeat % 3 - 1))
        watts = 300 + 300 * min(1.0, speed / 50000)
        requests = tokens / new
        good = requests if load.mode == "online" else None
        flags = ("unaligned",) if load.mode == "online" else ()
        measured.append(
            Part(seconds, tokens, requests * prompt, requests, requests, good, watts * seconds, flags)
        )  # fmt: skip
        alone.append(Part(seconds, 1e4, 1e4 * prompt, 1e4, 1e4, None, 550 * seconds))
    return measured, alone if load.kind in ("closed", "sequential", "batch") else []


def _write_cell(study: Study, start: Start, load: Load) -> None:
    size = load.size if load.kind in ("sequential", "batch", "closed") else 8.0
    speed, prompt, new = _speed(start, size or 8.0), 128.0, 128.0
    measured, alone = _parts(load, speed, prompt, new)
    found, spread = Numbers(), protocol("measure", measured, IDLE)
    facts = facts_of(start)
    if load.kind == "capacity":
        found.metrics |= {
            "capacity_requests_per_s": 40.0, "missed_requests_per_s": 45.0, "burst_requests_per_s": 60.0,
            "met_share_wanted": 0.9, "probes": [{"rate_per_s": 40.0, "met": True}, {"rate_per_s": 45.0, "met": False}],
        }  # fmt: skip
    else:
        seconds = sum(part.seconds for part in measured)
        tokens = round(sum(part.tokens for part in measured))
        found.metrics |= {
            "generated_tokens": tokens, "wall_time_s": tokens / speed, "throughput_tok_s": speed,
            "prompt_tokens_mean": prompt, "new_tokens_mean": new,
            "cut_share": 1.0 if load.lengths == "fixed" else 0.02, "requests_per_s": speed / new,
        }  # fmt: skip
        add(found, repeat_numbers(spread))
        add(found, energy_numbers(measured, alone, IDLE))
        if load.mode == "online":
            _online(found, load, size or 8.0, speed, new, seconds)
        else:
            add(found, speed_numbers(measured, alone))
            _offline(found, load, size or 1.0, speed, new)
        _roofs(found, size or 8.0)
    _write(
        study, start.cell, start.record_name(load), _about(study, start, load.name),
        metrics=_memory(facts) | found.metrics, null_reasons=found.reasons,
        energy=_energy(load, measured, alone), phases=phases_of(_energy(load, measured, alone)),
        more_settings={"load": load.as_dict(), "facts": facts, "started": start.name, "idle": IDLE.as_dict(),
                       "protocol": spread.as_dict()},
    )  # fmt: skip


def _energy(load: Load, measured: list[Part], alone: list[Part]) -> dict[str, Any]:
    phases = {"measure": measured} | ({"prefill": alone} if alone else {})
    sums = {name: (sum(p.seconds for p in parts), sum(p.gross_j for p in parts), 1.0) for name, parts in phases.items()}
    return energy_of(sums) | BOUNDARY


def _offline(found: Numbers, load: Load, size: float, speed: float, new: float) -> None:
    requests = round(found.metrics["generated_tokens"] / new)
    found.metrics |= {"windows": 5, "passes": 5, "num_prompts": requests, "num_batches": round(requests / size)}
    for name, times in (("p50", 1.0), ("p90", 1.05), ("p95", 1.1), ("p99", 1.2), ("mean", 1.0), ("max", 1.3)):
        found.metrics[f"latency_{name}_s"] = times * new * size / speed
    found.metrics |= {"batch_latency_p50_s": new * size / speed, "batch_latency_p95_s": 1.1 * new * size / speed}


def _online(found: Numbers, load: Load, size: float, speed: float, new: float, seconds: float) -> None:
    each_ms = 1e3 * size / speed
    for level, times in (("p50", 1.0), ("p90", 1.3), ("p95", 1.5), ("p99", 2.5), ("mean", 1.1), ("max", 4.0)):
        found.metrics |= {
            f"ttft_{level}_ms": 20 * each_ms * times, f"tpot_{level}_ms": each_ms * times,
            f"itl_{level}_ms": each_ms * times, f"e2e_{level}_ms": (new + 20) * each_ms * times,
        }  # fmt: skip
    requests = round(speed * seconds / new)
    found.metrics |= {
        "runs": 5, "requests": requests, "completed": requests, "failed": 0, "unfinished": 0, "error_share": 0.0,
        "saturated": False, "in_flight_mean": size, "steady_tok_s": speed, "steady_s": seconds, "steady_windows": 5,
        "slo_met_share": 0.97, "goodput_requests_per_s": 0.97 * min(speed / new, load.size or 1e9)
        if load.kind == "poisson" else 0.97 * speed / new, "slip_p99_ms": 0.2,
        "client_cpu_ms_per_request": 0.4, "prefix_queries": 0, "prefix_hits": 0, "cleaned": True,
        "prefix_hit_rate": None, "prefill_tok_s": 1e4 * 128 / 5.2,
    }  # fmt: skip
    found.reasons["prefix_hit_rate"] = "the cache of earlier prompts is off: nothing was looked up"


def _roofs(found: Numbers, size: float) -> None:
    decode = found.metrics.get("decode_tok_s") or found.metrics["steady_tok_s"]
    roof = size * 4300 / (1 + size / 400)
    found.metrics |= {
        "decode_roof_tok_s": roof, "decode_roof_share": decode / roof, "prefill_roof_tok_s": 800000.0,
        "prefill_roof_share": 0.3, "decode_bound": "launch" if size < 64 else "bandwidth",
    }  # fmt: skip

"""The serving benchmark's tables: without a server, on a server, capacity and memory, kernels.

Rows of natural and of fixed length stand apart by the column `lengths`; ratios are formed inside one of them only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.record import Record
from gainwatt.schemes import get_scheme
from gainwatt.study.serving_cells import STAGE, Load, Start, loads, served_cells, starts
from gainwatt.tables.results import Results
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
GB = 1e9
MIB = 2**20

# The columns of the published benchmark that this one continues; names and order are an interface.
PUBLISHED = (
    "label", "model", "quantization", "num_prompts", "max_new_tokens", "dtype", "max_model_len", "request_mode",
    "batch_size", "num_batches", "max_num_seqs", "max_num_batched_tokens", "generated_tokens", "wall_time_s",
    "throughput_tok_s", "latency_p50_s", "latency_p95_s", "peak_mem_gb", "peak_reserved_gb", "split", "output_dir",
)  # fmt: skip
_ENERGY = (
    "gross_j_per_token", "gross_j_per_token_low", "gross_j_per_token_high", "net_j_per_token",
    "above_loaded_idle_j_per_token", "gross_j_per_request", "prefill_gross_j_per_prompt_token",
    "decode_gross_j_per_token", "power_mean_w", "idle_at_rest_w", "idle_loaded_w",
)  # fmt: skip
_ROOFS = (
    "decode_tok_s", "decode_roof_tok_s", "decode_roof_share", "decode_bound", "prefill_tok_s", "prefill_roof_tok_s",
    "prefill_roof_share",
)  # fmt: skip
_MEMORY = ("memory_weights_mib", "memory_kv_cache_mib", "memory_activations_mib", "memory_reserved_mib",
           "board_memory_used_mib")  # fmt: skip
_GATES = ("throughput_cv", "power_cv", "gates_passed")
_OFFLINE = (
    "windows", "passes", "num_prompts", "prompt_tokens_mean", "new_tokens_mean", "cut_share", "wall_time_s",
    "throughput_tok_s", "throughput_tok_s_low", "throughput_tok_s_high", "requests_per_s", "latency_p50_s",
    "latency_p90_s", "latency_p95_s", "latency_p99_s", "batch_latency_p50_s", "batch_latency_p95_s",
)  # fmt: skip
_LATENCIES = tuple(
    f"{name}_{level}_ms" for name in ("ttft", "tpot", "itl", "e2e") for level in ("p50", "p90", "p95", "p99")
)
_ONLINE = (
    "runs", "requests", "completed", "failed", "error_share", "saturated", "in_flight_mean", "requests_per_s",
    "throughput_tok_s", "steady_tok_s", "throughput_tok_s_low", "throughput_tok_s_high", *_LATENCIES, "slo_met_share",
    "goodput_requests_per_s", "prompt_tokens_mean", "new_tokens_mean", "cut_share", "slip_p99_ms",
    "client_cpu_ms_per_request", "prefix_queries", "prefix_hits", "prefix_hit_rate", "cleaned",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One cell of the benchmark with its record."""

    start: Start
    load: Load
    record: Record

    @property
    def metrics(self) -> Row:
        """Its metrics."""
        found: Row = self.record["metrics"]
        return found

    @property
    def facts(self) -> Row:
        """What its engine said of itself; empty where it did not come up."""
        found: Row = self.record["settings"].get("facts") or {}
        return found


def measured(results: Results, mode: str) -> Iterator[Measured]:
    """The cells of one mode (offline, online) that have a record, in the study's order."""
    serve, records = results.study.serve, results.branches.get(STAGE, {})
    if serve is None:
        return
    for cell in served_cells(results.study):
        for start in starts(results.study, cell):
            for load in loads(serve, mode) if start.mode == mode else ():
                record = records.get(start.record_name(load))
                if record is not None:
                    yield Measured(start, load, record)


def published(results: Results) -> list[Row]:
    """Cells without a server in the columns of the published benchmark; GB are 10^9 bytes.

    `label` names the record, `split` is `random` for prompts of fixed length. `peak_mem_gb` is the memory in use on the
    fullest board, as nvidia-smi shows it, and `peak_reserved_gb` what the engine holds of it, used or not.
    """
    return [_published(results, found) for found in measured(results, "offline")]


def _published(results: Results, found: Measured) -> Row:
    serve, metrics, facts = results.study.serve, found.metrics, found.facts
    assert serve is not None  # noqa: S101 - there are no cells without it
    scheme = get_scheme(found.start.cell.scheme)
    fixed = found.load.lengths == "fixed"
    return {
        "label": Path(found.record["path"]).stem,
        "model": results.study.model.source,
        "quantization": "none" if scheme.dense else found.start.kernel or facts.get("quantization") or scheme.name,
        "num_prompts": metrics.get("num_prompts"),
        "max_new_tokens": serve.fixed_new_tokens if fixed else serve.max_new_tokens,
        "dtype": facts.get("dtype") or scheme.compute_dtype or results.study.model.dtype,
        "max_model_len": facts.get("max_model_len") or serve.max_model_tokens,
        "request_mode": found.load.kind,
        "batch_size": int(found.load.size or 1),
        "num_batches": metrics.get("num_batches"),
        "max_num_seqs": facts.get("max_num_seqs"),
        "max_num_batched_tokens": facts.get("max_num_batched_tokens"),
        **{name: metrics.get(name) for name in PUBLISHED[12:17]},
        "peak_mem_gb": _gb(metrics.get("board_memory_used_mib")),
        "peak_reserved_gb": _gb(metrics.get("memory_reserved_mib")),
        "split": "random" if fixed else "test",
        "output_dir": Path(found.record["path"]).relative_to(results.folder.parent).as_posix(),
    }


def offline(results: Results) -> list[Row]:
    """Cells without a server: speed with intervals, latency, joules, roofs, memory, gates."""
    return [
        {**_about(found), "batch_size": int(found.load.size or 1), **_of(found, _OFFLINE), **_of(found, _ROOFS),
         **_of(found, _ENERGY), **_of(found, _MEMORY), **_of(found, _GATES), **_notes(found)}
        for found in measured(results, "offline")
    ]  # fmt: skip


def online(results: Results) -> list[Row]:
    """Cells on a server: latencies from the scheduled time, goodput, steady-state speed and joules, roofs, cache hits.

    `throughput_tok_s` is over whole runs, ramp and drain included, `steady_tok_s` over their steady states; the
    interval and the joules are those of the steady states.
    """
    return [
        {**_about(found), "clients": found.load.size if found.load.kind == "closed" else None,
         "rate_per_s": found.load.size if found.load.kind == "poisson" else None, **_of(found, _ONLINE),
         **_of(found, (*_ROOFS, *_ENERGY, "gross_j_per_good_request", *_MEMORY, *_GATES)), **_notes(found)}
        for found in measured(results, "online")
        if found.load.kind != "capacity"
    ]  # fmt: skip


def capacities(results: Results) -> list[Row]:
    """One row per start of an engine: memory in parts, what fits at once, idle power; the largest rate carried."""
    rows = []
    records = results.branches.get(STAGE, {})
    searched = {(f.start, f.load.lengths): f for f in measured(results, "online") if f.load.kind == "capacity"}
    for cell in served_cells(results.study):
        for start in starts(results.study, cell):
            record = records.get(start.name)
            if record is None:
                continue
            found: list[Measured | None] = [search for (of, _), search in searched.items() if of == start]
            rows += [_capacity(start, record, search) for search in found or [None]]
    return rows


def _capacity(start: Start, record: Record, search: Measured | None) -> Row:
    metrics = record["metrics"]
    searched = search.metrics if search else {}
    row: Row = {"variant": start.cell.variant, "scheme": start.cell.scheme, "kernel": start.kernel, "mode": start.mode}
    row["lengths"] = search.load.lengths if search else None
    names = ("capacity_requests_per_s", "missed_requests_per_s", "burst_requests_per_s", "met_share_wanted")
    row |= {name: searched.get(name) for name in names}
    row |= {name: metrics.get(name) for name in ("max_concurrency", "kv_cache_tokens", "max_model_len", "max_num_seqs")}
    row |= {name: metrics.get(name) for name in _MEMORY}
    devices = record["energy"].get("devices") or []
    for name, key in (("idle_at_rest_w", "idle_before_w"), ("idle_loaded_w", "idle_after_w")):
        values = [device.get(key) for device in devices]
        row[name] = sum(values) if values and None not in values else None
    row["startup_s"] = metrics.get("startup_s")
    told = search.record if search else record
    row |= {"status": told["status"], "reason": told["reason"]}
    row["null_reason"] = told["null_reasons"].get("capacity_requests_per_s") if search else None
    return row


def kernels(results: Results) -> list[Row]:
    """What really multiplied the matrices in each cell without a server, and what that made of the speed.

    `over_reference` is the throughput over that of the reference scheme of the same variant under the same load,
    `over_own_choice` over that of the same checkpoint with the kernel that the engine chooses by itself. A cell that
    failed on its way has a speed so far, and no ratio.
    """
    every = list(measured(results, "offline"))
    whole = [found for found in every if found.record["status"] == "ok"]
    speeds = {(f.start.cell, f.start.kernel, f.load): f.metrics.get("throughput_tok_s") for f in whole}
    rows = []
    for found in every:
        cell, facts = found.start.cell, found.facts
        compared = speeds.get((cell, found.start.kernel, found.load))
        reference = type(cell)(cell.variant, results.study.quantize.reference)
        rows.append(
            {
                "variant": cell.variant,
                "scheme": cell.scheme,
                "kernel": found.start.kernel,
                "lengths": found.load.lengths,
                "batch_size": int(found.load.size or 1),
                "quantization": facts.get("quantization"),
                "quantization_kernel": _words(facts.get("quantization_kernel")),
                "kernel_as_asked": facts.get("quantization_as_asked"),
                "attention_backend": _words(facts.get("attention_backend")),
                "cuda_graphs": facts.get("cuda_graphs"),
                "engine": found.record["cell"]["engine"],
                "engine_version": facts.get("engine_version"),
                "throughput_tok_s": found.metrics.get("throughput_tok_s"),
                "over_reference": _ratio(compared, speeds.get((reference, None, found.load))),
                "over_own_choice": _ratio(compared, speeds.get((cell, None, found.load))),
                "status": found.record["status"],
                "reason": found.record["reason"],
            }
        )
    return rows


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """The summary's part about serving; empty where nothing was served."""
    rows = tables.get("serving_benchmark") or []
    if not rows:
        return ""
    shown = [
        {
            "Variant": f"{found.start.cell.variant}, {found.load.name}",
            "Quantization": ".".join(filter(None, (found.start.cell.scheme, found.start.kernel))),
            "Throughput tok/s": row["throughput_tok_s"] if found.record["status"] == "ok" else found.record["status"],
            "Latency p50 s": row["latency_p50_s"],
            "Latency p95 s": row["latency_p95_s"],
            "Peak mem GB": row["peak_mem_gb"],
        }
        for row, found in zip(rows, measured(results, "offline"), strict=True)
    ]
    text = f"## Serving\n\n{to_markdown(shown)}"
    on_server = [
        {"variant": r["variant"], "scheme": r["scheme"], "load": r["load"], "tok/s": r["throughput_tok_s"],
         "TTFT p95 ms": r["ttft_p95_ms"], "TPOT p95 ms": r["tpot_p95_ms"], "share within SLO": r["slo_met_share"],
         "J/token": r["gross_j_per_token"], "status": r["status"]}
        for r in tables.get("serving_online") or []
    ]  # fmt: skip
    return text + (
        f"\nOn a server, latencies from the scheduled time:\n\n{to_markdown(on_server)}" if on_server else ""
    )


def _about(found: Measured) -> Row:
    cell = found.start.cell
    return {
        "variant": cell.variant, "scheme": cell.scheme, "kernel": found.start.kernel,
        "engine": found.record["cell"]["engine"], "lengths": found.load.lengths, "load": found.load.name,
    }  # fmt: skip


def _of(found: Measured, names: tuple[str, ...]) -> Row:
    return {name: found.metrics.get(name) for name in names}


def _notes(found: Measured) -> Row:
    record = found.record
    why = record["null_reasons"].get("gross_j_per_token") or record["null_reasons"].get("net_j_per_token")
    told = record["energy"].get("null_reasons") or {}
    why = told.get("gross_j") or why if why and why.startswith("no meter") else why
    flags = {flag for window in _windows(record) for flag in window.get("flags") or ()}
    return {
        "boundary": "+".join(record["energy"].get("boundary", [])) or None,
        "flags": "; ".join(sorted(flags)) or None,
        "status": record["status"],
        "reason": record["reason"],
        "null_reason": why,
    }


def _windows(record: Record) -> list[Row]:
    protocol = record["settings"].get("protocol") or {}
    return list(protocol.get("windows") or [])


def _words(value: Any) -> str | None:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {what}" for name, what in value.items())
    return None if value is None else str(value)


def _gb(mib: float | None) -> float | None:
    return None if mib is None else mib * MIB / GB


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below

"""The metrics of a cell on a server: percentiles over all of its runs, steady-state speed, joules, goodput, roofs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gainwatt.energy.protocol import ArmResult
from gainwatt.serving.columns import add, repeat_numbers
from gainwatt.serving.energy import Idle, Numbers, Part, energy_numbers, protocol, steady_part
from gainwatt.serving.online import OnlineRun, capacity, slo_of
from gainwatt.serving.percentiles import percentiles, summarise
from gainwatt.serving.requests import LoadResult
from gainwatt.serving.roofs import Roofs
from gainwatt.study.serving import Online
from gainwatt.study.serving_cells import Load

EnergyBetween = Callable[[float, float], dict[str, Any]]
NO_STEADY = "no run had a steady state: too few requests for each client, or every client waited in a queue"


def joined(results: Sequence[LoadResult]) -> LoadResult:
    """All runs of one load as one, for percentiles over all of their requests; its duration is the sum of theirs."""
    first = results[0]
    return LoadResult(
        log=[row for result in results for row in result.log],
        started_ns=0,
        ended_ns=sum(result.ended_ns - result.started_ns for result in results),
        client_cpu_s=math.fsum(result.client_cpu_s for result in results),
        slip_ms=percentiles(row.slip_ms for result in results for row in result.log),
        lag_ms={"p50": None, "p99": None, "max": max((r.lag_ms["max"] or 0.0 for r in results), default=None)},
        planned=sum(result.planned for result in results),
        concurrency=first.concurrency,
        in_flight_max=max(result.in_flight_max for result in results),
        ended_early=next((result.ended_early for result in results if result.ended_early), None),
    )


def online_numbers(
    run: OnlineRun, load: Load, online: Online, idle: Idle, roofs: Roofs, energy_between: EnergyBetween,
    *, weight_bytes: float | None,
) -> tuple[Numbers, ArmResult]:  # fmt: skip
    """Metrics of a closed loop or of Poisson arrivals."""
    slo = slo_of(online)
    found = _summary(joined(run.measure), online) if run.measure else Numbers()
    found.put("runs", len(run.measure))
    parts = _parts(run.measure, slo, energy_between)
    alone = _parts(run.prefill, None, energy_between)
    spread = protocol("measure", parts, idle)
    _steady(found, parts, alone)
    add(found, repeat_numbers(spread))
    add(found, energy_numbers(parts, alone, idle))
    # The steady state of a closed loop is when all clients wait for an answer; the mean knows its ends too.
    clients = load.size if load.kind == "closed" else found.metrics.get("in_flight_mean")
    batch = round(clients or 1)
    prompts, tokens = found.metrics.get("prompt_tokens_mean"), found.metrics.get("new_tokens_mean")
    roof = roofs.numbers(
        batch=max(1, batch), prompt_tokens=prompts or 0.0, new_tokens=tokens or 0.0, weight_bytes=weight_bytes,
        decode_tok_s=found.metrics["steady_tok_s"], prefill_tok_s=found.metrics["prefill_tok_s"],
    )  # fmt: skip
    add(found, roof)
    _hits(found, run)
    return found, spread


def capacity_numbers(run: OnlineRun, online: Online) -> Numbers:
    """The largest rate that met the service level, the smallest that did not, and every rate tried."""
    found = Numbers()
    carried, missed = capacity(run.probes)
    found.put("capacity_requests_per_s", carried, "no rate that was tried met the service level")
    found.put("missed_requests_per_s", missed, "every rate that was tried met the service level: this is a lower bound")
    burst = run.probes[0]["rate_per_s"] if run.probes else None
    found.put("burst_requests_per_s", burst, "no burst was sent")
    found.put("met_share_wanted", online.slo.met_share)
    found.metrics["probes"] = run.probes
    _hits(found, run)
    return found


def _parts(results: Sequence[LoadResult], slo: Any, energy_between: EnergyBetween) -> list[Part]:
    found = (steady_part(result, slo, energy_between) for result in results)
    return [part for part in found if part is not None]


def _summary(result: LoadResult, online: Online) -> Numbers:
    """The client's own row of all runs together, under names of this stage."""
    row = summarise(result, slo_of(online))
    reasons = row.pop("null_reasons")
    found = Numbers()
    for name in (
        "status",
        "ended_early",
        "errors",
        "tokens_from",
        "planned",
        "concurrency",
        "lag_p50_ms",
        "lag_p99_ms",
    ):
        row.pop(name)
    renamed = {"output_tokens": "generated_tokens", "output_tok_s": "throughput_tok_s", "duration_s": "wall_time_s"}
    for name, value in row.items():
        if name.startswith(("lag_mean", "lag_p90", "lag_p95")):
            continue
        found.put(renamed.get(name, name), value, reasons.get(name))
    done, seconds = row["completed"], row["duration_s"]
    busy_ms = row["e2e_mean_ms"]
    none = "no request ended well"
    found.put("in_flight_mean", busy_ms / 1e3 * done / seconds if busy_ms and seconds else None, none)
    found.put("prompt_tokens_mean", _mean(row["prompt_tokens"], done), reasons.get("prompt_tokens") or none)
    found.put("new_tokens_mean", _mean(row["output_tokens"], done), none)
    cut = sum(log.finish_reason == "length" for log in result.log if log.status == "ok")
    found.put("cut_share", cut / done if done else None, none)
    return found


def _steady(found: Numbers, parts: Sequence[Part], alone: Sequence[Part]) -> None:
    seconds, alone_s = math.fsum(p.seconds for p in parts), math.fsum(p.seconds for p in alone)
    found.put("steady_windows", len(parts))
    found.put("steady_s", seconds if parts else None, NO_STEADY)
    found.put("steady_tok_s", math.fsum(p.tokens for p in parts) / seconds if seconds else None, NO_STEADY)
    prompt = math.fsum(p.prompt_tokens for p in alone)
    why = NO_STEADY if alone else "prompts were not measured alone (serve.split_phases, or arrivals at random)"
    found.put("prefill_tok_s", prompt / alone_s if alone_s and prompt else None, why)


def _hits(found: Numbers, run: OnlineRun) -> None:
    known = [entry for entry in run.cleanliness if entry["queries"] is not None]
    unknown = "the server does not count look-ups in its cache of earlier prompts"
    queries = sum(entry["queries"] for entry in known) if known else None
    hits = sum(entry["hits"] for entry in known) if known else None
    found.put("prefix_queries", queries, unknown)
    found.put("prefix_hits", hits, unknown)
    nothing = "the cache of earlier prompts is off: nothing was looked up"
    found.put(
        "prefix_hit_rate", hits / queries if hits is not None and queries else None, nothing if known else unknown
    )
    found.put("cleaned", all(entry["cleaned"] for entry in run.cleanliness) if run.cleanliness else None, "nothing ran")


def _mean(total: float | None, count: int) -> float | None:
    return total / count if total is not None and count else None

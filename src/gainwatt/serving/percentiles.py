"""What a load amounts to: percentiles, throughput, goodput."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gainwatt.serving.requests import COUNTED_BY, LoadResult, RequestLog, Slo

LEVELS = (50, 90, 95, 99)


def percentile(ordered: Sequence[float], level: float) -> float | None:
    """The `level`-th percentile of values in ascending order, linear between ranks (numpy's default); None of none."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * level / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """{"mean", "p50", "p90", "p95", "p99", "max"} of the values that are there; each None where none is."""
    ordered = sorted(value for value in values if value is not None)
    found: dict[str, float | None] = {"mean": math.fsum(ordered) / len(ordered) if ordered else None}
    found |= {f"p{level}": percentile(ordered, level) for level in LEVELS}
    return {**found, "max": ordered[-1] if ordered else None}


def summarise(result: LoadResult, slo: Slo | None = None) -> dict[str, Any]:
    """One flat row of a load.

    Latencies are `<metric>_<mean|p50|p90|p95|p99|max>_ms` for ttft, tpot, itl, e2e (definitions: `RequestLog`; over
    requests that ended well, itl over their chunks), `sent_ttft` (from the sending, as other tools count), `slip`
    (over all that were sent) and `lag`. Throughput is over the whole load, from its start to the end of its last
    request, as in vllm bench. A request meets the SLO when it ended well within each limit; `slo_met_share` is of all
    requests that were due: one that failed has missed it. `status` is `failed` where the load ended early or nothing
    ended well. `null_reasons` says why a value is None.
    """
    done = [row for row in result.log if row.status == "ok"]
    seconds = (result.ended_ns - result.started_ns) / 1e9
    row = _counts(result, done) | _throughput(done, seconds) | _goodput(result.log, done, seconds, slo)
    for name, values in _latencies(done).items():
        row |= {f"{name}_{level}_ms": value for level, value in percentiles(values).items()}
    row |= {f"slip_{level}_ms": value for level, value in result.slip_ms.items()}
    row |= {f"lag_{level}_ms": value for level, value in result.lag_ms.items()}
    row["client_cpu_s"] = result.client_cpu_s
    row["client_cpu_ms_per_request"] = 1e3 * result.client_cpu_s / len(result.log) if result.log else None
    row["null_reasons"] = {name: _reason(name, row, slo) for name, value in row.items() if value is None}
    row["null_reasons"].pop("ended_early", None)
    return row


def good(row: RequestLog, slo: Slo) -> bool:
    """Whether a request ended well and within each limit; one of a single token has no TPOT and keeps that limit."""
    pairs = ((row.ttft_ms, slo.ttft_ms), (row.tpot_ms, slo.tpot_ms), (row.e2e_ms, slo.e2e_ms))
    return row.status == "ok" and all(limit is None or value is None or value <= limit for value, limit in pairs)


def _latencies(done: Sequence[RequestLog]) -> dict[str, list[float | None]]:
    return {
        "ttft": [row.ttft_ms for row in done],
        "tpot": [row.tpot_ms for row in done],
        "itl": [gap for row in done for gap in row.itl_ms],
        "e2e": [row.e2e_ms for row in done],
        "sent_ttft": [row.sent_ttft_ms for row in done],
    }


def _counts(result: LoadResult, done: Sequence[RequestLog]) -> dict[str, Any]:
    failed = [row for row in result.log if row.status == "error"]
    return {
        "status": "ok" if done and result.ended_early is None else "failed",
        "ended_early": result.ended_early,
        "planned": result.planned,
        "requests": len(result.log),
        "completed": len(done),
        "failed": len(failed),
        "unfinished": len(result.log) - len(done) - len(failed),
        "error_share": len(failed) / len(result.log) if result.log else None,
        "errors": dict(sorted(Counter(row.error_kind for row in failed).items(), key=str)),
        "concurrency": result.concurrency,
        "in_flight_max": result.in_flight_max,
    }


def _throughput(done: Sequence[RequestLog], seconds: float) -> dict[str, Any]:
    output = sum(row.tokens or 0 for row in done)
    told = [row.prompt_tokens for row in done if row.prompt_tokens is not None]
    prompt = sum(told) if done and len(told) == len(done) else None
    chunks = sum(len(row.chunk_ns) for row in done)
    counted = Counter(row.tokens_from for row in done)
    return {
        "duration_s": seconds,
        "requests_per_s": len(done) / seconds if done else None,
        "output_tokens": output,
        "prompt_tokens": prompt,
        "output_tok_s": output / seconds if done else None,
        "total_tok_s": (output + prompt) / seconds if prompt is not None else None,
        "chunks": chunks,
        "tokens_per_chunk": output / chunks if chunks else None,
        "tokens_from": {name: counted[name] for name in COUNTED_BY if counted[name]},
    }


def _goodput(log: Sequence[RequestLog], done: Sequence[RequestLog], seconds: float, slo: Slo | None) -> dict[str, Any]:
    if slo is None or slo == Slo():
        return {"slo_met": None, "slo_met_share": None, "goodput_requests_per_s": None}
    met = sum(good(row, slo) for row in done)
    return {
        "slo_met": met,
        "slo_met_share": met / len(log) if log else None,
        "goodput_requests_per_s": met / seconds if log else None,
    }


def _reason(name: str, row: dict[str, Any], slo: Slo | None) -> str:
    if name == "concurrency":
        return "requests were sent at scheduled times, not by slots"
    if name.startswith(("slo_", "goodput")) and (slo is None or slo == Slo()):
        return "the study declares no service level objective"
    if name in ("prompt_tokens", "total_tok_s") and row["completed"]:
        return "the server did not tell the number of prompt tokens"
    if name.startswith(("tpot", "itl")) and row["completed"]:
        return "no answer had two tokens or more"
    return "no request ended well" if row["requests"] else "no request was sent"

"""Do the numbers of the serving benchmark hold together, and was every cell immune to the one before it?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gainwatt.record import Record
from gainwatt.study.serving_cells import STAGE
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, listed, number, off
from gainwatt.validation.findings import ERROR, WARNING

_STAGES = (STAGE,)
_AGAIN = (
    "remove this record and that of its checkpoint (VARIANT.SCHEME) and run the study again: only what is missing is "
    "measured"
)
_LEVELS = ("p50", "p90", "p95", "p99", "max")
_FAMILIES = (*(f"{name}_{{}}_ms" for name in ("ttft", "tpot", "itl", "e2e", "slip")), "latency_{}_s")
SLIP_MS = 1.0
"""A client that is never later than this is as good as on time: the shortest latencies are some ms."""
SLIP_SHARE = 0.05


@each_record(ERROR, source="the status of the record", stages=_STAGES, any_status=True)
def serving_failed(study: Collected, record: Record) -> Iterator[Problem]:
    """No cell of the serving benchmark failed; what one measured until then is kept, and is not a result."""
    if record["status"] == "failed":
        yield Problem(f"the cell failed: {record.get('reason')}", f"see the log of its server; then {_AGAIN}")


@each_record(ERROR, source="throughput = tokens / seconds; validation.consistency_tolerance", stages=_STAGES)
def serving_throughput(study: Collected, record: Record) -> Iterator[Problem]:
    """Tokens, seconds and throughput of a load fit together, and so do tokens, requests and their mean."""
    tolerance = study.study.validation.consistency_tolerance
    tokens, seconds, rate, mean = _given(
        record, "generated_tokens", "wall_time_s", "throughput_tok_s", "new_tokens_mean"
    )
    if tokens is not None and seconds is not None and rate is not None and off(rate * seconds, tokens) > tolerance:
        what = f"{rate:.1f} tokens/s for {seconds:.2f} s make {rate * seconds:.0f} tokens, the record says {tokens:.0f}"
        yield Problem(what, _AGAIN)
    offline, online = _given(record, "num_prompts", "completed")
    count = offline if offline is not None else online
    if tokens is not None and mean is not None and count is not None and off(mean * count, tokens) > tolerance:
        yield Problem(f"{count:.0f} answers of {mean:.2f} tokens are not {tokens:.0f} tokens", _AGAIN)


@each_record(ERROR, source="what the load asked for", stages=_STAGES)
def serving_fixed_length(study: Collected, record: Record) -> Iterator[Problem]:
    """In a load of fixed length every prompt and every answer has that length."""
    load, serve = record["settings"].get("load") or {}, record["settings"].get("serve") or {}
    if load.get("lengths") != "fixed":
        return
    for metric, setting in (("prompt_tokens_mean", "fixed_prompt_tokens"), ("new_tokens_mean", "fixed_new_tokens")):
        (mean,), wanted = _given(record, metric), number(serve.get(setting))
        if mean is not None and wanted is not None and abs(mean - wanted) > 1e-6 * wanted:
            yield Problem(f"{metric} is {mean:.2f}, and serve.{setting} is {wanted:.0f}", _AGAIN)


@each_record(WARNING, source="validation.hit_max_warning", stages=_STAGES)
def serving_cut(study: Collected, record: Record) -> Iterator[Problem]:
    """In a load of natural length few answers are cut by the limit, or the lengths are no longer natural."""
    load, limit = record["settings"].get("load") or {}, study.study.validation.hit_max_warning
    (share,) = _given(record, "cut_share")
    if load.get("lengths") == "natural" and share is not None and share > limit:
        what = f"{share:.0%} of the answers were cut by serve.max_new_tokens (limit {limit:.0%})"
        yield Problem(what, "raise serve.max_new_tokens, or read the loads of fixed length instead")


@each_record(ERROR, source="prompts are drawn anew for every cell and the cache is off or reset", stages=_STAGES)
def serving_clean(study: Collected, record: Record) -> Iterator[Problem]:
    """No cell found its prompts in a cache of earlier ones, and the server was clean before each run."""
    hits, queries = _given(record, "prefix_hits", "prefix_queries")
    if hits:
        what = f"{hits:.0f} of {queries or 0:.0f} prompt tokens were found in the cache of earlier prompts"
        yield Problem(what, _AGAIN)
    if record["metrics"].get("cleaned") is False:
        yield Problem("the server would not forget the prompts of the run before", _AGAIN)


@each_record(ERROR, source="percentiles rise; a first token comes before the last", stages=_STAGES)
def serving_percentiles(study: Collected, record: Record) -> Iterator[Problem]:
    """Percentiles of one latency rise with their level, and no answer ends before its first token."""
    for family in _FAMILIES:
        values = [(level, number(record["metrics"].get(family.format(level)))) for level in _LEVELS]
        known = [(level, value) for level, value in values if value is not None]
        for (low, below), (high, above) in pairwise(known):
            if below > above * (1 + 1e-9) + 1e-9:
                yield Problem(f"{family.format(low)} = {below:g} is above {family.format(high)} = {above:g}", _AGAIN)
    first, last = _given(record, "ttft_p50_ms", "e2e_p50_ms")
    if first is not None and last is not None and first > last:
        yield Problem(f"the median first token ({first:g} ms) comes after the median last one ({last:g} ms)", _AGAIN)


@each_record(ERROR, source="every request ends in one way; gainwatt.serving.client", stages=_STAGES)
def serving_requests(study: Collected, record: Record) -> Iterator[Problem]:
    """Requests that ended well, failed or did not end are all requests; no more met the service level than ended."""
    total, done, failed, unfinished = _given(record, "requests", "completed", "failed", "unfinished")
    if None not in (total, done, failed, unfinished) and total != (done or 0) + (failed or 0) + (unfinished or 0):
        yield Problem(f"{done:.0f} + {failed:.0f} + {unfinished:.0f} requests are not {total:.0f}", _AGAIN)
    all_rate, good_rate = _given(record, "requests_per_s", "goodput_requests_per_s")
    if all_rate is not None and good_rate is not None and good_rate > all_rate * (1 + 1e-6):
        yield Problem(f"goodput {good_rate:g}/s is above the {all_rate:g}/s that ended", _AGAIN)


@each_record(WARNING, source=f"{SLIP_MS:g} ms and {SLIP_SHARE:.0%} of the time to first token", stages=_STAGES)
def serving_slip(study: Collected, record: Record) -> Iterator[Problem]:
    """The client sent its requests when they were due: its own delay is small against what it measures."""
    slip, first = _given(record, "slip_p99_ms", "ttft_p50_ms")
    if slip is not None and first is not None and slip > SLIP_MS and slip > SLIP_SHARE * first:
        what = f"1 % of the requests were sent more than {slip:.1f} ms late; the median first token took {first:.1f} ms"
        yield Problem(what, "give the client a core of its own, or fewer clients")


@each_record(WARNING, source="the engine's own log", stages=_STAGES, any_status=True)
def serving_kernel(study: Collected, record: Record) -> Iterator[Problem]:
    """A kernel that was asked for by name is the one that ran."""
    facts = record["settings"].get("facts") or {}
    if facts.get("quantization_as_asked") is False:
        asked, ran = record["cell"].get("kernel"), facts.get("quantization_kernel")
        yield Problem(f"{asked} was asked for, and {ran} ran", "read the row under the name of the kernel that ran")


@each_record(ERROR, source="a part is not more than the whole; validation.energy_tolerance", stages=_STAGES)
def serving_energy(study: Collected, record: Record) -> Iterator[Problem]:
    """The joules of the windows are a part of the joules of the job, and what is divided among tokens is their sum."""
    tolerance = study.study.validation.energy_tolerance
    (part,), whole = _given(record, "gross_j"), number(record["energy"].get("gross_j"))
    if part is not None and whole is not None and part > whole * (1 + tolerance):
        yield Problem(f"the windows took {part:.1f} J, and the whole job {whole:.1f} J", _AGAIN)
    mean, low, high = _given(record, "gross_j_per_token", "net_j_per_token", "above_loaded_idle_j_per_token")
    for name, value in (("net_j_per_token", low), ("above_loaded_idle_j_per_token", high)):
        if mean is not None and value is not None and value > mean * (1 + 1e-9):
            yield Problem(f"{name} = {value:g} is above gross_j_per_token = {mean:g}", _AGAIN)


@each_record(ERROR, source="the search brackets the capacity", stages=_STAGES)
def serving_capacity(study: Collected, record: Record) -> Iterator[Problem]:
    """The largest rate that was carried lies below the smallest that was not."""
    carried, missed = _given(record, "capacity_requests_per_s", "missed_requests_per_s")
    if carried is not None and missed is not None and carried >= missed:
        yield Problem(f"{carried:g}/s was carried, and {missed:g}/s was not", _AGAIN)


@each_record(WARNING, source="gainwatt.serving.server", stages=_STAGES)
def serving_stopped(study: Collected, record: Record) -> Iterator[Problem]:
    """Every engine ended without leaving a process or memory of the GPU behind, which the next one would lack."""
    for name, ended in (record["settings"].get("stopped") or {}).items():
        if ended.get("gpu_memory_returned") is False:
            yield Problem(f"after {name}: {ended.get('gpu_memory_reason')}", "see which process holds it: nvidia-smi")
        if ended.get("processes_left"):
            yield Problem(f"{name} left processes: {ended['processes_left']}", "end them by their id")


@each_record(ERROR, source="SHA-256 of the cells' records", stages=_STAGES)
def serving_grid(study: Collected, record: Record) -> Iterator[Problem]:
    """The record of a checkpoint lists its cells as they are."""
    changed = []
    for name, sha256 in (record["settings"].get("cells") or {}).items():
        path = study.layout.record(STAGE, name)
        if path.is_file() and study.sha256(path) != sha256:
            changed.append(name)
    if changed:
        what = f"{', '.join(listed(changed))} changed since this record listed them"
        yield Problem(what, "run scripts/benchmark_serving.py of this checkpoint: it measures nothing that is there")


def _given(record: Record, *names: str) -> tuple[Any, ...]:
    """Metrics as numbers, None where they are null or absent."""
    return tuple(number(record["metrics"].get(name)) for name in names)

"""Joules and seconds per token and per request of measured windows, prefill and decode apart.

Offline a window is some passes of closed batches between ticks of the energy counter. Online it is the steady state of
a run: from the moment when every client has its first token until the queue drains (`schedule.steady_window`), cut out
of the job's power trace afterwards. A request that only partly lies in the window counts by the share of its tokens.

Prefill and decode. The same kind of prompts with answers of one token is the prefill alone: its joules per prompt
token, times the prompt tokens of the whole load, are the load's prefill; what is left is the decode, divided by the
tokens after the first of each answer. That is an attribution by difference: where a running batch mixes the two, it
charges the decode with what the mixing costs.

Net joules subtract what the board drew at rest before the engine was started, as everywhere in the project; joules
above loaded idle subtract what it drew with the engine loaded and nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.protocol import ArmResult, Window, evaluate
from gainwatt.serving.percentiles import good
from gainwatt.serving.requests import LoadResult, RequestLog, Slo
from gainwatt.serving.schedule import steady_window

NO_DECODE = "the prefill-only load took no less than the whole load: nothing is left for the decode"


@dataclass(frozen=True)
class Part:
    """What lies in one window. `firsts` are first tokens, `good` the requests that met the service level."""

    seconds: float
    tokens: float
    prompt_tokens: float
    firsts: float
    requests: float
    good: float | None = None
    gross_j: float | None = None
    flags: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Idle:
    """Watts of all metered devices at rest, and with the engine loaded; None where not measured, with the reason."""

    at_rest_w: float | None = None
    loaded_w: float | None = None
    reason: str | None = "idle power was not measured"

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return {"at_rest_w": self.at_rest_w, "loaded_w": self.loaded_w, "reason": self.reason}


@dataclass
class Numbers:
    """Metrics with the reasons of those that are null."""

    metrics: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float | int | str | None, reason: str | None = None) -> None:
        """Keep a number, or null with the reason."""
        self.metrics[name] = value
        if value is None:
            self.reasons[name] = reason or "it was not measured"


HELD = "idle_with_context"
NOT_AT_REST = "this process held the board already when idle power was measured, and never saw it at rest"


def idle_of(energy: dict[str, Any], rested_w: float | None = None) -> Idle:
    """Idle power around an engine's start, from the energy block of that job: before it, and once it was loaded.

    A process that has used the board keeps its context there. Before a later start of its own the board is not at rest,
    and `rested_w`, the watts before the first one, counts: else the cells of the later start would have fewer net
    joules than those of the first for the same work.
    """
    devices = energy.get("devices") or []
    sums = []
    for key in ("idle_before_w", "idle_after_w"):
        values = [device.get(key) for device in devices]
        sums.append(sum(values) if values and None not in values else None)
    told = energy.get("null_reasons") or {}
    if any(HELD in (device.get("flags") or ()) for device in devices):
        return Idle(rested_w, sums[1], NOT_AT_REST if rested_w is None else None)
    reason = None
    if None in sums:
        reason = "no meter; see the energy block of the engine's start" if not devices else str(told.get("net_j") or "")
        reason = reason or "idle power was not measured"
    return Idle(sums[0], sums[1], reason)


def steady_part(
    result: LoadResult, slo: Slo | None, energy_between: Callable[[float, float], dict[str, Any]]
) -> Part | None:
    """The steady state of one run with its joules; None where the run had none."""
    window = steady_window(result.log, result.concurrency)
    if window is None:
        return None
    start_ns, end_ns = window
    # What arrives just as the window opens was worked for before it: its joules are not in it.
    inside = [(row, _tokens_inside(row, start_ns, end_ns)) for row in result.log]
    shares = [(row, tokens / total if total else 0.0) for row, (tokens, total) in inside]
    first = [row for row in result.log if row.first_ns is not None and start_ns < row.first_ns <= end_ns]
    found = energy_between(start_ns / 1e9, end_ns / 1e9)
    return Part(
        seconds=(end_ns - start_ns) / 1e9,
        tokens=math.fsum(tokens for _, (tokens, _) in inside),
        prompt_tokens=float(sum(row.prompt_tokens or 0 for row in first)),
        firsts=float(len(first)),
        requests=math.fsum(share for _, share in shares),
        good=None if slo is None else math.fsum(share for row, share in shares if good(row, slo)),
        gross_j=found["gross_j"],
        flags=tuple(found["flags"]),
        reason=found.get("reason"),
    )


def _tokens_inside(row: RequestLog, start_ns: int, end_ns: int) -> tuple[float, float]:
    """(tokens that arrived in the window, all tokens) of one request; evenly over its chunks where they do not tell."""
    if not row.chunk_ns:
        return 0.0, 0.0
    total = float(row.tokens if row.tokens is not None else len(row.chunk_ns))
    each: Sequence[float] = row.chunk_tokens or [total / len(row.chunk_ns)] * len(row.chunk_ns)
    inside = math.fsum(n for at, n in zip(row.chunk_ns, each, strict=False) if start_ns < at <= end_ns)
    return inside, math.fsum(each)


def energy_numbers(parts: Sequence[Part], prefill: Sequence[Part], idle: Idle) -> Numbers:
    """Joules per token, request and good request over all windows together; prefill and decode apart."""
    found = Numbers()
    seconds = math.fsum(part.seconds for part in parts)
    gross, why = joules(parts)
    found.put("gross_j", gross, why)
    found.put("power_mean_w", _over(gross, seconds), why)
    tokens = math.fsum(part.tokens for part in parts)
    requests = math.fsum(part.requests for part in parts)
    met = None if any(part.good is None for part in parts) else math.fsum(part.good or 0.0 for part in parts)
    nothing = "no token was generated in a measured window"
    found.put("gross_j_per_token", _over(gross, tokens), why or nothing)
    for name, watts in (("net_j_per_token", idle.at_rest_w), ("above_loaded_idle_j_per_token", idle.loaded_w)):
        more = None if gross is None or watts is None else gross - watts * seconds
        if more is not None and more < 0:
            found.put(name, None, "the windows drew less than idle power explains")
        else:
            found.put(name, _over(more, tokens), why or (idle.reason if watts is None else nothing))
    found.put("gross_j_per_request", _over(gross, requests), why or nothing)
    if met is not None:
        reason = why or "no request in a measured window met the service level"
        found.put("gross_j_per_good_request", _over(gross, met), reason)
    _split(found, parts, prefill, gross, why)
    found.put("idle_at_rest_w", idle.at_rest_w, idle.reason)
    found.put("idle_loaded_w", idle.loaded_w, idle.reason)
    return found


def joules(parts: Sequence[Part]) -> tuple[float | None, str | None]:
    """Gross joules of all windows, or None with the reason of the first that has none."""
    if not parts:
        return None, "there was no measured window"
    lacking = next((part for part in parts if part.gross_j is None), None)
    if lacking is not None:
        return None, lacking.reason or "the meter gave no energy for a window"
    return math.fsum(part.gross_j or 0.0 for part in parts), None


def _split(
    found: Numbers, parts: Sequence[Part], prefill: Sequence[Part], gross: float | None, why: str | None
) -> None:
    alone, why_alone = joules(prefill)
    if not prefill:
        why_alone = "prompts were not measured alone (serve.split_phases, or the load is not a closed one)"
    prompts_alone = math.fsum(part.prompt_tokens for part in prefill)
    per_prompt = _over(alone, prompts_alone)
    found.put("prefill_gross_j_per_prompt_token", per_prompt, why_alone or "the server told no prompt tokens")
    reason = why or why_alone
    decode = None
    if gross is not None and per_prompt is not None:
        tokens = math.fsum(part.tokens - part.firsts for part in parts)
        left = gross - per_prompt * math.fsum(part.prompt_tokens for part in parts)
        decode = _over(left, tokens) if left > 0 else None
        reason = NO_DECODE if left <= 0 else "no answer had a second token"
    found.put("decode_gross_j_per_token", decode, reason)


def speed_numbers(parts: Sequence[Part], prefill: Sequence[Part]) -> Numbers:
    """Prefill and decode speed of closed batches in tokens/s, by the same difference in seconds."""
    found = Numbers()
    alone_s, alone = _sums(prefill, "seconds"), _sums(prefill, "prompt_tokens")
    why = None if prefill else "prompts were not measured alone (serve.split_phases)"
    found.put("prefill_tok_s", _over(alone, alone_s), why)
    decode = None
    if alone:
        left_s = _sums(parts, "seconds") - alone_s / alone * _sums(parts, "prompt_tokens")
        tokens = _sums(parts, "tokens") - _sums(parts, "firsts")
        decode = _over(tokens, left_s) if left_s > 0 and tokens > 0 else None
        why = NO_DECODE if left_s <= 0 else "no answer had a second token"
    found.put("decode_tok_s", decode, why)
    return found


def protocol(name: str, parts: Sequence[Part], idle: Idle) -> ArmResult:
    """Spreads, intervals and gates of the windows, by the project's protocol; the work is tokens."""
    windows = [
        Window(
            arm=name,
            order=order,
            calls=1,
            work=part.tokens,
            seconds=part.seconds,
            gross_j=part.gross_j,
            net_j=_above(part, idle.at_rest_w),
            temperature_start_c=None,
            cooled=None,
            flags=part.flags,
        )
        for order, part in enumerate(parts)
        if part.tokens > 0 and part.seconds > 0
    ]
    return evaluate(name, windows)


def _above(part: Part, watts: float | None) -> float | None:
    return None if part.gross_j is None or watts is None else part.gross_j - watts * part.seconds


def _sums(parts: Sequence[Part], name: str) -> float:
    return math.fsum(getattr(part, name) for part in parts)


def _over(above: float | None, below: float) -> float | None:
    return None if above is None or not below else above / below

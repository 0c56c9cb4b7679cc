"""A load on a completions server: by slots (closed loop) or by a schedule (open loop), timed from the schedule.

One thread, non-blocking sockets and a poller, because the client is a part of the measurement: it shares the machine
with the server and its own delays are counted as the server's. No task, future or callback lies between a socket that
is ready and the time that is written down; requests are encoded, and the connections of a closed loop opened, before
the clock runs; the garbage collector rests meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from gainwatt.errors import InputError
from gainwatt.serving.load import Load
from gainwatt.serving.percentiles import percentiles
from gainwatt.serving.requests import Limits, LoadResult, Request, RequestLog, Target

EventHandler = Callable[[str, RequestLog], None]
"""Called with "sent" or "ended" and the log so far, between two readings: what it takes is added to latencies."""


def run_load(
    target: Target,
    requests: Sequence[Request],
    *,
    concurrency: int | None,
    timeout_s: float,
    stop_when: Limits,
    on_event: EventHandler | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> LoadResult:
    """Send `requests` to `target` and log what comes back.

    Closed loop: `concurrency` slots, filled in the order of `requests`; a request is scheduled for the moment when
    its slot is free. The slots open 0.1 ms after one another, about what sending takes, so that the first
    requests do not wait for each other. Open loop: `concurrency` None and `scheduled_s` in every request; requests
    are sent at these times however many are under way.

    A request that has not ended `timeout_s` after it was due fails. The load ends when all have ended, or by
    `stop_when`; what is under way then is logged as `unfinished`, and what was not due yet is not logged.
    `count_tokens` counts generated text for a server that tells no number of tokens. A connection that was closed by
    the server while it was idle is opened once more, silently but on the request's time.

    A failed request or a dead server is a result, not an exception. Raises InputError for requests that cannot be
    sent, and what `on_event` raises.
    """
    _check(requests, concurrency, timeout_s)
    cpu_ns = time.thread_time_ns()
    load = Load(target, requests, concurrency, timeout_s, stop_when, on_event, count_tokens)
    with _undisturbed():
        try:
            load.run()
        finally:
            load.close()
    return _result(load, len(requests), concurrency, time.thread_time_ns() - cpu_ns)


def _result(load: Load, planned: int, concurrency: int | None, cpu_ns: int) -> LoadResult:
    return LoadResult(
        log=load.log,
        started_ns=load.started_ns,
        ended_ns=load.ended_ns,
        client_cpu_s=cpu_ns / 1e9,
        slip_ms=percentiles(row.slip_ms for row in load.log),
        lag_ms=percentiles(lag / 1e6 for lag in load.lags_ns),
        planned=planned,
        concurrency=concurrency,
        in_flight_max=load.in_flight_max,
        ended_early=load.ended_early,
    )


def _check(requests: Sequence[Request], concurrency: int | None, timeout_s: float) -> None:
    """Raises InputError where requests and mode do not fit."""
    if not requests:
        raise InputError("a load without requests", "give at least one request")
    if len({request.id for request in requests}) != len(requests):
        raise InputError("two requests of a load have the same id", "number them")
    timed = sum(request.scheduled_s is not None for request in requests)
    if concurrency is None and timed != len(requests):
        raise InputError(
            f"{len(requests) - timed} of {len(requests)} requests have no scheduled time",
            "give each its scheduled_s (open loop), or a concurrency (closed loop)",
        )
    if concurrency is not None and (timed or concurrency < 1):
        raise InputError(
            f"concurrency {concurrency} with {timed} scheduled times", "slots from 1 on, or times, not both"
        )
    if not timeout_s > 0:
        raise InputError(f"a time-out of {timeout_s} s", "give a positive one")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection; other threads of this process (an energy sampler) hold the interpreter 0.2 ms at most."""
    was_on, interval = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.disable()
    sys.setswitchinterval(min(interval, 2e-4))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if was_on:
            gc.enable()

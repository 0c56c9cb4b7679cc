"""Limits that end a load: each with its reason, none without need."""

from __future__ import annotations

import random

import pytest

from gainwatt.serving.limits import Watch
from gainwatt.serving.requests import Limits, RequestLog
from gainwatt.serving.saturation import Saturation

S = 1_000_000_000


def ended(status: str = "error") -> RequestLog:
    return RequestLog(0, 0, status=status, error_kind="cut" if status == "error" else None, error="gone")


def test_share_of_planned_requests():
    watch = Watch(Limits(max_error_share=0.02), 100)
    assert [watch.ended(ended()) for _ in range(2)] == [None, None]
    assert watch.ended(ended("ok")) is None
    assert watch.ended(ended()) == "3 requests failed, 2.00% of 100 planned ones allowed, the last one cut: gone"


def test_number_of_errors_and_errors_in_a_row():
    watch = Watch(Limits(max_error_share=None, max_errors=1), 100)
    assert watch.ended(ended()) is None
    assert watch.ended(ended()) == "2 requests failed, 1 allowed, the last one cut: gone"
    watch = Watch(Limits(max_error_share=None, max_errors_in_a_row=1), 100)
    assert [watch.ended(ended(status)) for status in ("error", "ok", "error", "ok")] == [None] * 4
    assert watch.ended(ended()) is None
    assert watch.ended(ended()) == "2 requests failed one after another, the last one cut: gone"


def test_time():
    watch = Watch(Limits(max_s=2), 100)
    assert watch.periodic(2 * S, 0) is None
    assert watch.periodic(2 * S + 1, 0) == "the load took longer than 2 s"
    assert Watch(Limits(), 100).periodic(10**15, 0) is None


def queue(rate: float, capacity: float, seconds: float, seed: int) -> str | None:
    """A server of one request after another: Poisson arrivals, a fixed time of service; looked at each 250 ms."""
    draw = random.Random(seed)
    watch = Watch(Limits(saturation_s=20.0), 10**6)
    events: list[tuple[float, str, float]] = []
    now = free = 0.0
    while now < seconds:
        now += draw.expovariate(rate)
        free = max(now, free) + 1 / capacity
        events += [(now, "sent", 0.0), (free, "ended", free - now)]
    under_way, check = 0, 0.0
    for at, kind, wait in sorted(events):
        under_way += 1 if kind == "sent" else -1
        if kind == "sent":
            watch.sent(round(at * S), under_way)
        else:
            row = RequestLog(0, 0, chunk_ns=[round(wait * S)])
            watch.first_token(round(at * S), row)
        if at > check:
            check = at + 0.25
            if reason := watch.periodic(round(at * S), round(at * S)):
                return reason
    return None


@pytest.mark.parametrize("seed", range(5))
def test_server_that_falls_behind_is_saturated(seed):
    assert queue(rate=30.0, capacity=20.0, seconds=60.0, seed=seed).startswith("saturated: within 20 s")


@pytest.mark.parametrize("seed", range(10))
def test_busy_server_that_keeps_up_is_not(seed):
    assert queue(rate=14.0, capacity=20.0, seconds=300.0, seed=seed) is None


def test_nothing_is_said_before_a_whole_window_or_with_few_values():
    saturation = Saturation(10.0)
    assert saturation.reason(0) is None
    for i in range(200):
        saturation.sent(i * S // 25, i)
        saturation.first_token(i * S // 25, float(i))
    assert saturation.reason(8 * S) is None
    assert Saturation(1.0).reason(10 * S) is None

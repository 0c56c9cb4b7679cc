"""The sampler's grid of rounds."""

from __future__ import annotations

import threading

import pytest

from gainwatt.energy import clock


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_late_round_skips_what_it_missed_instead_of_catching_up(monkeypatch: pytest.MonkeyPatch) -> None:
    time, ready, ended = Time(), threading.Event(), threading.Event()
    monkeypatch.setattr(clock, "time", time)
    begun: list[float] = []

    def poll() -> None:
        ready.wait(timeout=30.0)
        begun.append(time.now)
        if len(begun) == 1:
            time.now += 0.95  # the round hangs in the driver
        if len(begun) == 5:
            loop._ended.set()
            ended.set()

    loop = clock.ThreadLoop(poll, 0.1)
    ready.set()
    assert ended.wait(timeout=30.0)
    assert loop.stop()
    assert begun == pytest.approx([0.0, 1.0, 1.1, 1.2, 1.3])

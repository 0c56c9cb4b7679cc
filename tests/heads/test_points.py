"""The seconds of a point are those of its work."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

from gainwatt.heads import points
from gainwatt.heads.points import Measurer


class Scripted:
    """Stands for an engine and for a scorer; remembers what it was asked."""

    def __init__(self, clock=None):
        self.asked: list[str] = []
        self.clock = clock or SimpleNamespace(now=0.0)

    def warm_up(self, work):
        self.asked.append(f"warm up {len(work)}")

    def generate(self, requests):
        self.asked.append("generate")
        self.clock.now += 7.0
        yield []

    def score(self, windows):
        self.asked.append("score")
        self.clock.now += 3.0
        yield {0: 1.0}, 0.0


def measurer(engine, scorer):
    encoded = SimpleNamespace(windows=[1, 2, 3])
    return Measurer(engine, [], {}, [1, 2], encoded, scorer)


def test_waiting_for_the_meter_is_no_work(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(points, "time", SimpleNamespace(monotonic=lambda: clock.now))

    @contextlib.contextmanager
    def phase(name, **_):
        clock.now += 0.1  # the meter waits at the edges of a measured window until its counter ticks
        yield
        clock.now += 0.1

    found = measurer(Scripted(clock), Scripted(clock)).measure("none-0", phase)
    assert (round(found["perplexity_s"], 9), round(found["generate_s"], 9)) == (3.0, 7.0)


def test_warm_up_is_of_the_work_that_follows():
    engine, scorer = Scripted(), Scripted()
    measurer(engine, scorer).warm_up()
    assert engine.asked == ["warm up 2", "generate"]
    assert scorer.asked == ["warm up 3"]

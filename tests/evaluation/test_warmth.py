"""A first batch that met a cold GPU shows."""

from __future__ import annotations

from gainwatt.engines.base import Completion
from gainwatt.evaluation.warmth import batch_steps


def batch(latency_s, *tokens, size=2):
    return [Completion(i, "", n, "stop", latency_s, size) for i, n in enumerate(tokens)]


def test_a_step_is_the_latency_by_the_longest_answer():
    done = [*batch(6.4, 64, 10), *batch(0.8, 40, 3), *batch(0.9, 30, 30), *batch(5.0, 10)]
    assert batch_steps(done) == {"first_batch_step_ms": 100.0, "second_batch_step_ms": 20.0}


def test_what_cannot_be_told_is_null():
    nothing = {"first_batch_step_ms": None, "second_batch_step_ms": None}
    assert batch_steps([]) == nothing
    assert batch_steps(batch(6.4, 64, 3)) == nothing
    assert batch_steps([found for s in (1.0, 2.0, 3.0, 4.0) for found in batch(s, 5, size=None)]) == nothing
    assert batch_steps([found for _ in range(4) for found in batch(None, 5)]) == nothing
    assert batch_steps([found for s in (1.0, 2.0, 3.0) for found in batch(s, 0)])["first_batch_step_ms"] == 1000.0

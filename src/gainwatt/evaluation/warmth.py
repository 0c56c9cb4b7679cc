"""Was the GPU warm when the answers began? The first closed batch against the others."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from gainwatt.engines.base import Completion

NO_BATCHES = "it takes three closed batches or more to tell"


def batch_steps(completions: Iterable[Completion]) -> dict[str, float | None]:
    """Milliseconds of a decoding step in the first closed batch, and the median of the other batches.

    `completions` in the order in which they ended; those of one batch ended together and bear its latency. A step of a
    batch is its latency by the tokens of its longest answer. Both are None with fewer than three batches, or where an
    engine has no closed batches.
    """
    longest: dict[float, int] = {}
    for found in completions:
        if found.latency_s is not None and found.batch_size is not None:
            longest[found.latency_s] = max(longest.get(found.latency_s, 1), found.tokens)
    steps = [1e3 * latency_s / tokens for latency_s, tokens in longest.items()]
    few = len(steps) < 3
    return {
        "first_batch_step_ms": None if few else steps[0],
        "other_batches_step_ms": None if few else statistics.median(steps[1:]),
    }

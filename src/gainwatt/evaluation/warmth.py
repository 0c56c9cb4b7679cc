"""Was the GPU warm when the answers began? The first closed batch against the second."""

from __future__ import annotations

from collections.abc import Iterable

from gainwatt.engines.base import Completion

NO_BATCHES = "it takes two closed batches or more to tell"


def batch_steps(completions: Iterable[Completion]) -> dict[str, float | None]:
    """Milliseconds of a decoding step in the first closed batch, and in the second.

    `completions` in the order in which they ended; those of one batch ended together and bear its latency. A step of a
    batch is its latency by the tokens of its longest answer. Longest prompts come first, so that the second batch is
    the one most like the first. Both are None with a single batch, or where an engine has no closed batches.
    """
    longest: dict[float, int] = {}
    for found in completions:
        if found.latency_s is not None and found.batch_size is not None:
            longest[found.latency_s] = max(longest.get(found.latency_s, 1), found.tokens)
    steps = [1e3 * latency_s / tokens for latency_s, tokens in longest.items()]
    first, second = steps[:2] if len(steps) > 1 else (None, None)
    return {"first_batch_step_ms": first, "second_batch_step_ms": second}

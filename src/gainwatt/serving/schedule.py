"""When requests are due, and in which window a server was fully loaded."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from gainwatt.errors import InputError
from gainwatt.serving.requests import RequestLog


def poisson_schedule(rate_per_s: float, n: int, seed: int) -> list[float]:
    """Times in s, ascending, of `n` arrivals of a Poisson process of `rate_per_s` in the first n / rate seconds.

    Given their number, the arrivals of a Poisson process in an interval are independent and uniform (Ross,
    Introduction to Probability Models, 5.3): so the load has the rate that was asked for exactly, and not by chance a
    few percent more. Raises InputError for a rate or number that is not positive.
    """
    if not (math.isfinite(rate_per_s) and rate_per_s > 0) or n < 1:
        raise InputError(f"no schedule of {n} requests at {rate_per_s} per second", "ask for positive numbers")
    draw = random.Random(f"arrivals:{seed}")  # noqa: S311 - not a secret
    return sorted(draw.random() * n / rate_per_s for _ in range(n))


def steady_window(log: Sequence[RequestLog], concurrency: int | None) -> tuple[int, int] | None:
    """The time in which all slots were filled, in ns: until the queue drains. None where there was no such time.

    Closed loop: from the first token of the `concurrency`-th request that got one (ml-energy's rule) to the first end
    of a request after the last one was sent, when a slot stays empty for the first time. Open loop (`concurrency`
    None): from the first end of a request to the last sending, while requests came and went.
    """
    ends = [row.ended_ns for row in log if row.ended_ns is not None]
    sent = [row.sent_ns for row in log if row.sent_ns is not None]
    firsts = sorted(row.first_ns for row in log if row.first_ns is not None)
    if not sent or not ends:
        return None
    if concurrency is None:
        start, end = min(ends), max(sent)
    else:
        after = [at for at in ends if at > max(sent)]
        if len(firsts) < concurrency or not after:
            return None
        start, end = firsts[concurrency - 1], min(after)
    return (start, end) if start < end else None

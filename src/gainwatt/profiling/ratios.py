"""Two arms of one load against each other, window by window: what drifts with time falls out of the ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.energy.stats import spread, t95

Window = dict[str, Any]
Cell = dict[str, Any]


@dataclass(frozen=True)
class RatioOf:
    """A ratio with its 95 % interval over `n` pairs of windows; None where unknown, and then why."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


def latency_s(window: Window) -> float | None:
    """Seconds of one batch."""
    return window["seconds"] / window["calls"] if window["calls"] else None


def throughput(window: Window) -> float | None:
    """Generated tokens per second of all sequences together, reading the prompt included."""
    return window["work"] / window["seconds"] if window["seconds"] else None


def gross_j_per_token(window: Window) -> float | None:
    """Gross joules per generated token."""
    return window["gross_j"] / window["work"] if window["gross_j"] is not None else None


def net_j_per_token(window: Window) -> float | None:
    """Net joules per generated token."""
    return window["net_j"] / window["work"] if window["net_j"] is not None else None


def power_w(window: Window) -> float | None:
    """Mean power in watts."""
    return window["gross_j"] / window["seconds"] if window["gross_j"] is not None else None


QUANTITIES: dict[str, Callable[[Window], float | None]] = {
    "latency": latency_s,
    "throughput": throughput,
    "gross_j_per_token": gross_j_per_token,
    "net_j_per_token": net_j_per_token,
    "power": power_w,
}


def paired(cell: Cell, baseline: Cell, quantity: str) -> RatioOf:
    """`cell` / `baseline` of a quantity of `QUANTITIES`, two cells that were measured in interleaved order.

    The windows of one block (A B, B A, …) ran right after each other and make one pair; the estimate is the geometric
    mean of the pairs' ratios, the interval is Student's on their logarithms.
    """
    of = QUANTITIES[quantity]
    pairs = list(zip(map(of, cell["windows"]), map(of, baseline["windows"]), strict=False))
    usable = [(a, b) for a, b in pairs if a is not None and b is not None and a > 0 and b > 0]
    if not usable:
        return RatioOf(None, None, None, 0, _why(cell, baseline))
    found = spread([math.log(a / b) for a, b in usable])
    assert found.mean is not None  # noqa: S101 - there is a value
    return RatioOf(
        math.exp(found.mean),
        None if found.low is None else math.exp(found.low),
        None if found.high is None else math.exp(found.high),
        found.n,
        None if found.n > 1 else "one pair of windows has no interval",
    )


def unpaired(above: Sequence[float], below: Sequence[float]) -> RatioOf:
    """Mean of `above` / mean of `below` for measurements that were not interleaved (two loads of one arm).

    The interval is Welch's on the logarithms of the geometric means, with the smaller number of degrees of freedom.
    """
    logs = [[math.log(value) for value in values if value > 0] for values in (above, below)]
    if not all(logs):
        return RatioOf(None, None, None, 0, "a value is missing")
    first, second = spread(logs[0]), spread(logs[1])
    assert first.mean is not None  # noqa: S101
    assert second.mean is not None  # noqa: S101
    estimate, n = first.mean - second.mean, min(first.n, second.n)
    if first.sd is None or second.sd is None:
        return RatioOf(math.exp(estimate), None, None, n, "one window has no interval")
    half = t95(n - 1) * math.sqrt(first.sd**2 / first.n + second.sd**2 / second.n)
    return RatioOf(math.exp(estimate), math.exp(estimate - half), math.exp(estimate + half), n)


def _why(cell: Cell, baseline: Cell) -> str:
    for found, name in ((cell, cell.get("arm")), (baseline, "the baseline")):
        if found.get("status") != "ok":
            return f"{name} is {found.get('status')}"
    reasons = cell.get("null_reasons", {})
    return str(reasons.get("gross_j_per_ktok") or reasons.get("net_j_per_ktok") or "no window has a value")

"""Does a server fall behind an open loop? Then its queue grows without end and a longer run shows longer waits."""

from __future__ import annotations

import itertools
from collections import deque

from gainwatt.serving.percentiles import percentile

_SLICES = 4
_PER_SLICE = 10
_GROWTH = 1.5
_LEFT_BEHIND = 0.1


class Saturation:
    """Watches the last `window_s` seconds of a load: requests under way at each sending, time to first token of each.

    Saturated: over four equal slices of the window the median of both has grown from each slice to the next, from
    the first to the last by half at least, and of the requests sent meanwhile 10 % or more were left behind. Medians of
    slices, because neighbouring values depend on each other: a slope with its usual error would find growth in any
    passing crowd. At least 10 values to a slice.

    How often this errs, simulated for a server of one request after another, 20 requests a second, 60 s, a window of
    20 s, 100 loads each: false alarms at 85, 90, 95 % of its capacity: 0, 0, 5; found at 105, 110, 125 %: 61, 95, 100.
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * 1e9)
        self._started_ns: int | None = None
        self._in_flight: deque[tuple[int, float]] = deque()
        self._ttft_ms: deque[tuple[int, float]] = deque()

    def sent(self, now_ns: int, in_flight: int) -> None:
        """A request was sent when `in_flight` were under way, itself included."""
        if self._started_ns is None:
            self._started_ns = now_ns
        self._in_flight.append((now_ns, in_flight))

    def first_token(self, now_ns: int, ttft_ms: float) -> None:
        """A first token arrived."""
        self._ttft_ms.append((now_ns, ttft_ms))

    def reason(self, now_ns: int) -> str | None:
        """Why the load is called saturated, or None."""
        if self._started_ns is None or now_ns - self._started_ns < self._window_ns:
            return None
        crowd, wait = self._growth(self._in_flight, now_ns), self._growth(self._ttft_ms, now_ns)
        if crowd is None or wait is None:
            return None
        # The middles of the first and the last slice lie three of four slices apart.
        sent = len(self._in_flight) * (_SLICES - 1) / _SLICES
        left_behind = (crowd[1] - crowd[0]) / sent
        if left_behind < _LEFT_BEHIND:
            return None
        return (
            f"saturated: within {self._window_ns / 1e9:g} s the requests under way grew from {crowd[0]:.0f} to "
            f"{crowd[1]:.0f} ({left_behind:.0%} of those sent) and the time to first token from {wait[0]:.0f} to "
            f"{wait[1]:.0f} ms, without a pause"
        )

    def _growth(self, values: deque[tuple[int, float]], now_ns: int) -> tuple[float, float] | None:
        """Medians of the first and the last slice where they grew throughout, else None."""
        begin = now_ns - self._window_ns
        while values and values[0][0] < begin:
            values.popleft()
        slices: list[list[float]] = [[] for _ in range(_SLICES)]
        for at, value in values:
            slices[min(_SLICES - 1, (at - begin) * _SLICES // self._window_ns)].append(value)
        if any(len(found) < _PER_SLICE for found in slices):
            return None
        medians = [percentile(sorted(found), 50) or 0.0 for found in slices]
        rising = all(before < after for before, after in itertools.pairwise(medians))
        return (medians[0], medians[-1]) if rising and medians[-1] >= _GROWTH * medians[0] else None

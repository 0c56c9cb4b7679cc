"""Brings a device's own record of power onto the meter's clock.

The record is stamped with the wall clock, which may be set while a job runs (NTP, an operator); the meter counts on a
monotonic clock. Every reading of the record therefore measures the offset between the two again. Where the offset has
jumped by more than `STEP_S`, the samples of that reading carry the old or the new wall time, depending on when each was
taken: they are walked from the newest to the oldest, and those that fit the new time only with a hole in front of
their successor are read with the old offset. The stretch in question is kept in `steps`: windows that it touches are
marked.

    monotonic   ...|------ reading ------|------ reading ------|...
    offset            12.000 s              9.000 s  (set back by 3 s)
    stamps      x  x  x  x  x  x  x' x' x' x'             x: old time, x': new time
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

from gainwatt.energy.device import Device

STEP_S = 0.005
_SURE_S = 0.0002
_TRIES = 3
_AHEAD_S = 0.05
_HOLE_MIN_S = 0.06


class Feed:
    """New samples of `device`'s record as (monotonic seconds, watts), each once and in order; see the module."""

    def __init__(
        self, device: Device, record: tuple[float, float], now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """`record`: spacing and length of the device's record in seconds; `now`, `wall`: both clocks in seconds."""
        self.device = device
        self.spacing_s, self.span_s = record
        self.newest_s = -math.inf
        self.ahead = 0
        """Samples of the last reading that lie in the future."""
        self.steps: list[tuple[float, float]] = []
        """Stretches (start, end) of the monotonic clock in which the wall clock was set."""
        self._now, self._wall = now, wall
        self._lock = threading.Lock()
        self._last_us = 0
        self._offset_s: float | None = None
        self._old_offset_s = 0.0
        self._read_s = -math.inf
        self._careful_until_s = -math.inf

    def drain(self, put: Callable[[float, float], None]) -> None:
        """Hand every new sample to `put`. Raises DeviceError; the samples then come with a later call."""
        with self._lock:
            self._drain(put)

    def _drain(self, put: Callable[[float, float], None]) -> None:
        now, offset, doubt = self._measure_offset()
        if self._offset_s is not None and abs(offset - self._offset_s) > STEP_S + doubt:
            self.steps.append((self._read_s, now))
            self._old_offset_s = self._offset_s
            # Samples of before the step stay in the record for its whole length.
            self._careful_until_s = now + 2 * self.span_s
        careful = now <= self._careful_until_s
        raw = self.device.read_record(0 if careful else self._last_us)
        self._offset_s, self._read_s = offset, now
        if careful:
            fresh = self._across(raw, offset)
        else:
            fresh = [(stamp * 1e-6 - offset, watts, stamp) for stamp, watts in sorted(raw)]
        limit = self._now() + _AHEAD_S
        self.ahead = sum(time_s > limit for time_s, _, _ in fresh)
        # A sample that is read again lies where it lay, but for what two measurements of the offset differ by.
        known_s = self.newest_s + (0.25 * self.spacing_s if careful else 0.0)
        for time_s, watts, stamp in fresh:
            if max(known_s, self.newest_s) < time_s <= limit:
                put(time_s, watts)
                self.newest_s, self._last_us = time_s, stamp

    def _across(self, raw: Sequence[tuple[int, float]], offset: float) -> list[tuple[float, float, int]]:
        """The whole record, each sample with the offset that fits it; the driver gives them in their true order."""
        hole_s = max(_HOLE_MIN_S, 3 * self.spacing_s)
        following, used = self._now() + _AHEAD_S / 2, offset
        found = []
        for stamp, watts in reversed(raw):
            time_s = stamp * 1e-6 - used
            if used == offset and not 0 < following - time_s <= hole_s:
                used = self._old_offset_s
                time_s = stamp * 1e-6 - used
            if time_s < following:
                found.append((time_s, watts, stamp))
                following = time_s
        return found[::-1]

    def _measure_offset(self) -> tuple[float, float, float]:
        """(monotonic now, wall − monotonic, how far that may be off), all in seconds."""
        best = (0.0, 0.0, math.inf)
        for _ in range(_TRIES):
            before = self._now()
            wall = self._wall()
            after = self._now()
            doubt = after - before
            if doubt < best[2]:
                best = (after, wall - 0.5 * (before + after), doubt)
            if doubt < _SURE_S:
                break
        return best

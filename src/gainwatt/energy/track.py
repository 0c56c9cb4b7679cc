"""What was read from one device: samples of power, slow readings, readings of the counter, and errors."""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gainwatt.energy.device import Device, DeviceError, SlowReading
from gainwatt.energy.feed import Feed
from gainwatt.energy.integrate import Curve, counter_curve

NAN = math.nan
ERRORS_KEPT = 20
STALE_S = 0.5
"""A record whose newest sample is older than this did not move."""
FRESH_S = 0.1
"""The same for the first reading, of a record that nothing is known about; or five of its spacings."""
UNIT_FACTOR = 4.0
"""Polled power may lie this far outside of what the record says of the last second; a wrong unit is further off."""
STRIKES = 2
"""Readings of the record in a row that may fail or bring nothing before power is polled instead."""
BIN_S = 0.5
SETTLED_SHARE = 0.05
SETTLED_W = 5.0
"""Power at rest moves by no more than the larger of these: this share of its mean, or these watts."""

T = TypeVar("T")


@dataclass(frozen=True)
class ErrorEvent:
    """One reading that failed."""

    time_s: float
    text: str
    code: int | None


class Track:
    """Readings of one device. Samples of power are float arrays (24 bytes a sample with their running integral).

    `hz`: power samples per second that are asked for. A device whose own record is at least that fast is read through
    the record, any other is polled.
    """

    def __init__(
        self, device: Device, now: Callable[[], float], wall: Callable[[], float] = time.time, hz: float = 10.0
    ) -> None:
        self.device = device
        self.hz = hz
        self._now = now
        self.times = array("d")
        self.power = array("d")
        self.cumulative = array("d")
        self.slow_points: list[tuple[float, SlowReading]] = []
        # (time, joules) pairs: the sampler and the caller both append, and one append is atomic where two are not.
        self.counter_points: list[tuple[float, float]] = []
        self.errors: list[ErrorEvent] = []
        self.error_times = array("d")
        self.lost: ErrorEvent | None = None
        self.record_ended: ErrorEvent | None = None
        self._strikes = 0
        self.feed: Feed | None = None
        self.steps: list[tuple[float, float]] = []
        """Stretches in which the wall clock was set, so that the record's stamps had to be sorted out."""
        self.spacing_s = 1.0 / hz
        """Expected distance of power samples in seconds."""
        if device.record is not None and device.record[0] * hz <= 1.05:
            self._try_record(Feed(device, device.record, now, wall))

    def _try_record(self, feed: Feed) -> None:
        """Take the record where its newest sample is of now; it also tells the power of the seconds before."""
        first: list[tuple[float, float]] = []
        asked_s = self._now()
        self._guard(lambda: feed.drain(lambda time_s, watts: first.append((time_s, watts))))
        why = self._doubt(feed, asked_s, first)
        if why is not None:
            self.device.missing["record"] = f"the driver's record of power cannot be used: {why}"
            return
        for time_s, watts in first:
            self._put(time_s, watts)
        self.feed, self.steps, self.spacing_s = feed, feed.steps, feed.spacing_s

    def _doubt(self, feed: Feed, asked_s: float, samples: list[tuple[float, float]]) -> str | None:
        """Why a record is not what this program takes it for: its clock or its unit; None where it is."""
        if self.errors:
            return self.errors[-1].text
        if asked_s - feed.newest_s > max(FRESH_S, 5 * feed.spacing_s):
            return "its newest sample is not of now"
        if feed.ahead > 1:
            return f"{feed.ahead} of its samples are of the future: its clock is not that of this machine"
        lately = [watts for time_s, watts in samples if time_s > feed.newest_s - 1.0]
        polled = self._guard(self.device.power_w)
        if polled is None or min(lately) / UNIT_FACTOR <= polled <= max(lately) * UNIT_FACTOR:
            return None
        return f"it says {min(lately):.5g} to {max(lately):.5g} W where polled power says {polled:.5g} W"

    @property
    def source(self) -> str | None:
        """Where power comes from: `record`, `instant`, `average`; None without power."""
        if self.feed is not None or self.record_ended is not None:
            return "record"
        return self.device.power_source

    @property
    def gap_s(self) -> float:
        """A stretch without a sample that is longer than this is a gap: 2.5 samples of those asked for."""
        return max(2.5 / self.hz, 5 * self.spacing_s if self.feed is not None else 0.0)

    def sample(self, slow: bool, counter: bool) -> None:
        """Take one round: power always, the slow readings and the counter when asked. Never raises."""
        if self.lost is not None:
            return
        self.sample_power()
        if counter and self.device.has_counter and self.lost is None:
            self.read_counter()
        if slow and self.lost is None:
            time_s, reading = self._now(), self._guard(self.device.slow)
            if reading is not None:
                self.slow_points.append((time_s, reading))

    def sample_power(self) -> None:
        """Take the new samples of the record, or one poll. Never raises."""
        if self.lost is not None or not self.device.has_power:
            return
        if self.take_record():
            return
        # The clock is read just before the call: waiting for the interpreter lock afterwards must not shift the
        # sample.
        time_s = self._now()
        watts = self._guard(self.device.power_w)
        if watts is not None:
            self._put(time_s, watts)

    def take_record(self) -> bool:
        """Take the new samples of the record; False where there is none. Never raises."""
        feed = self.feed
        if feed is None or self.lost is not None:
            return False
        self._drain(feed)
        return True

    def _put(self, time_s: float, watts: float) -> None:
        """Append one sample. The time goes last: who reads at the same moment sees whole samples only."""
        if not math.isfinite(watts):
            return
        if self.times:
            step = 0.5 * (watts + self.power[-1]) * (time_s - self.times[-1])
            self.cumulative.append(self.cumulative[-1] + step)
        else:
            self.cumulative.append(0.0)
        self.power.append(watts)
        self.times.append(time_s)

    def _drain(self, feed: Feed) -> None:
        errors = len(self.error_times)
        self._guard(lambda: feed.drain(self._put))
        failed = len(self.error_times) > errors
        if not failed and self._now() - feed.newest_s <= STALE_S:
            self._strikes = 0
            return
        self._strikes += 1
        if self._strikes < STRIKES or self.lost is not None:
            return
        text = self.errors[-1].text if failed and self.errors else "it brought no new sample"
        self.record_ended = ErrorEvent(self._now(), f"the driver's record of power stopped: {text}", None)
        self.feed, self.spacing_s = None, 1.0 / self.hz

    def read_counter(self, keep: bool = True) -> tuple[float, float]:
        """(time, joules) of one reading, the time in the middle of the call; joules is NaN when it failed."""
        before = self._now()
        joules = self._guard(self.device.counter_j)
        time_s = 0.5 * (before + self._now())
        if joules is None:
            return time_s, NAN
        if keep:
            self.counter_points.append((time_s, joules))
        return time_s, joules

    def _guard(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except DeviceError as error:
            event = ErrorEvent(self._now(), error.text, error.code)
            fatal = error.fatal
        except Exception as error:  # noqa: BLE001 - a meter never fails the work that it measures
            event = ErrorEvent(self._now(), f"{type(error).__name__}: {error}", None)
            fatal = False
        self.error_times.append(event.time_s)
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append(event)
        if fatal:
            self.lost = event
        return None

    def throttle_samples(self) -> list[tuple[float, int]]:
        """(time, throttle bits) of every slow round that could read them."""
        return [
            (time_s, reading.throttle_reasons)
            for time_s, reading in self.slow_points
            if reading.throttle_reasons is not None
        ]

    def count(self, start_s: float, end_s: float) -> int:
        """Number of power samples in a span."""
        return bisect_right(self.times, end_s) - bisect_left(self.times, start_s)

    def steady(self, start_s: float, end_s: float) -> bool:
        """True where the means over `BIN_S` seconds stay within `SETTLED_SHARE` or `SETTLED_W`; true without power.

        Only what was sampled counts: a span that begins before the first sample is judged from there.
        """
        curve = self.power_curve()
        if curve is None:
            return True
        first = max(start_s, curve.times[0])
        bins = int((end_s - first) / BIN_S + 1e-6)
        if bins < 2:
            return True
        means = [curve.between(end_s - (n + 1) * BIN_S, end_s - n * BIN_S) / BIN_S for n in range(bins)]
        return max(means) - min(means) <= max(SETTLED_W, SETTLED_SHARE * abs(sum(means)) / bins)

    def lowest_w(self, start_s: float, end_s: float, seconds: float = 1.0) -> float | None:
        """Lowest mean power over `seconds` inside a span; None where the samples do not cover that much of it."""
        curve = self.power_curve()
        if curve is None:
            return None
        first, last = max(start_s, curve.times[0]), min(end_s, curve.times[-1])
        steps = int((last - first - seconds) / (0.25 * seconds) + 1e-6)
        if last - first < seconds:
            return None
        begins = [first + 0.25 * seconds * step for step in range(steps + 1)]
        return min(curve.between(begin, begin + seconds) for begin in begins) / seconds

    def power_curve(self) -> Curve | None:
        """Integral of the power samples; None when there is none. It grows while sampling goes on."""
        return Curve(self.times, self.cumulative, self.power) if self.times else None

    def counter_curve(self) -> Curve | None:
        """Curve through the counter readings; None with fewer than two."""
        order = sorted(self.counter_points)
        distinct = [point for index, point in enumerate(order) if index == 0 or point[0] > order[index - 1][0]]
        return counter_curve([t for t, _ in distinct], [j for _, j in distinct])

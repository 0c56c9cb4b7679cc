"""What was read from one device: columns of samples, readings of the counter, and errors."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from gainwatt.energy.device import Device, DeviceError, SlowReading
from gainwatt.energy.integrate import Curve, counter_curve, power_curve

NAN = math.nan
ERRORS_KEPT = 20


@dataclass(frozen=True)
class ErrorEvent:
    """One reading that failed."""

    time_s: float
    text: str
    code: int | None


class Track:
    """Samples of one device. Columns are float arrays (8 bytes a value); NaN is "not read in this round"."""

    def __init__(self, device: Device, now: Callable[[], float]) -> None:
        self.device = device
        self._now = now
        self.times = array("d")
        self.power = array("d")
        # Rare readings carry the number of their row, so that a usual round appends two numbers and nothing else.
        self.slow_rows: list[tuple[int, SlowReading]] = []
        self.counter_rows: list[tuple[int, float]] = []
        # (time, joules) pairs: the sampler and the caller both append, and one append is atomic where two are not.
        self.counter_points: list[tuple[float, float]] = []
        self.errors: list[ErrorEvent] = []
        self.error_times = array("d")
        self.lost: ErrorEvent | None = None

    def sample(self, slow: bool, counter: bool) -> None:
        """Take one round: power always, the slow readings and the counter when asked. Never raises."""
        if self.lost is not None:
            return
        # The clock is read just before the call: waiting for the interpreter lock afterwards must not shift the
        # sample.
        time_s = self._now()
        power = self._guard(self.device.power_w) if self.device.has_power else NAN
        if slow:
            self._sample_slow(power, counter or not self.device.has_power)
        elif power != power:
            return
        self.times.append(time_s)
        self.power.append(power)

    def _sample_slow(self, power: float, counter: bool) -> None:
        """The readings of a slow round; `power` is NaN where there is none."""
        row = len(self.times)
        if counter and self.device.has_counter and self.lost is None:
            joules = self.read_counter()[1]
            if joules == joules:
                self.counter_rows.append((row, joules))
        if self.lost is None:
            self.slow_rows.append((row, self.device.slow()))

    def read_counter(self, keep: bool = True) -> tuple[float, float]:
        """(time, joules) of one reading, the time in the middle of the call; joules is NaN when it failed."""
        before = self._now()
        joules = self._guard(self.device.counter_j)
        time_s = 0.5 * (before + self._now())
        if keep and not math.isnan(joules):
            self.counter_points.append((time_s, joules))
        return time_s, joules

    def _guard(self, read: Callable[[], float]) -> float:
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
        return NAN

    def throttle_samples(self) -> list[tuple[float, int]]:
        """(time, throttle bits) of every slow round that could read them."""
        return [
            (self.times[row], reading.throttle_reasons)
            for row, reading in self.slow_rows
            if reading.throttle_reasons is not None
        ]

    def watts(self, start_s: float, end_s: float) -> list[float]:
        """Power samples of a span, in order; readings that failed are left out."""
        low, high = bisect_left(self.times, start_s), bisect_right(self.times, end_s)
        return [watts for watts in self.power[low:high] if not math.isnan(watts)]

    def steady(self, start_s: float, end_s: float, *, share: float, watts: float) -> bool:
        """True where power stayed within the larger of `share` of its mean and `watts`; true without power samples."""
        seen = self.watts(start_s, end_s)
        return not seen or max(seen) - min(seen) <= max(watts, share * sum(seen) / len(seen))

    def lowest_w(self, start_s: float, end_s: float, samples: int = 10) -> float | None:
        """Lowest mean of `samples` power samples in a row; None where the span holds fewer."""
        seen = self.watts(start_s, end_s)
        if len(seen) < samples:
            return None
        total = lowest = sum(seen[:samples])
        for gone, come in zip(seen, seen[samples:], strict=False):
            total += come - gone
            lowest = min(lowest, total)
        return lowest / samples

    def power_curve(self) -> Curve | None:
        """Integral of the power samples; None when there is none."""
        pairs = [(t, w) for t, w in zip(self.times, self.power, strict=True) if not math.isnan(w)]
        return power_curve([t for t, _ in pairs], [w for _, w in pairs])

    def counter_curve(self) -> Curve | None:
        """Curve through the counter readings; None with fewer than two."""
        order = sorted(self.counter_points)
        distinct = [point for index, point in enumerate(order) if index == 0 or point[0] > order[index - 1][0]]
        return counter_curve([t for t, _ in distinct], [j for _, j in distinct])

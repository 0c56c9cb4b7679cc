"""Energy of one device in one window: counter and integral, which of them counts, and what is wrong with them.

Rule. The counter counts where it is healthy and the window either has edges on the counter's ticks or is at
least 100 ticks long (1 % of it is then one tick). Otherwise the trapezoid of power counts. Where neither covers
the window, the energy is null and the reason says why; `partial_j` then holds what was seen up to the last
reading.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from gainwatt.energy.edges import TICK_PATIENCE_S, Edge
from gainwatt.energy.flags import POWER_CAP_BITS, THROTTLE_BITS
from gainwatt.energy.integrate import (
    DEFAULT_TICK_S,
    Curve,
    counter_health,
    gaps,
    overlapping,
    relative_difference,
)
from gainwatt.energy.track import Track

SHORT_WINDOW_S = 5.0
LONG_TICKS = 100
FEW_TICKS = 5
FEW_SAMPLES = 10
DIFFER = 0.05
CONTINUOUS_TICK_S = 0.02
"""A counter without ticks (RAPL) moves about every millisecond: five of these without a change, and it stands."""


@dataclass
class WindowEnergy:
    """Result for one device; joules, seconds. `method` is `counter`, `integral` or None."""

    seconds: float
    counter_j: float | None = None
    integral_j: float | None = None
    method: str | None = None
    gross_j: float | None = None
    partial_j: float | None = None
    reason: str | None = None
    aligned: bool = False
    flags: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float | None:
        """(counter − integral) / integral."""
        return relative_difference(self.counter_j, self.integral_j)

    def mean_w(self) -> float | None:
        """Mean power in watts."""
        return None if self.gross_j is None or self.seconds <= 0 else self.gross_j / self.seconds


class Reader:
    """Prepared curves of one track; answers any number of windows in logarithmic time each."""

    def __init__(self, track: Track, tick_s: float | None = None) -> None:
        self.track = track
        self.power: Curve | None = track.power_curve()
        self.counter: Curve | None = track.counter_curve()
        self.tick_s = tick_s or track.device.counter_tick_s or DEFAULT_TICK_S
        # A counter that was not seen to tick may be stuck or slow: it is judged and trusted only over windows that are
        # long against what was waited for.
        self._slowest_tick_s = tick_s or TICK_PATIENCE_S
        # One that was seen to tick is stuck where a tick is waited for in vain.
        self._still_s = tick_s or math.inf
        self._long_s = LONG_TICKS * self._slowest_tick_s
        self._hold_s = max(3 / track.hz, 0.5)
        self.gaps = gaps(self.power.times, track.gap_s) if self.power else []
        bits = [(time_s, bits) for time_s, bits in track.throttle_samples() if bits]
        self._bit_times = [time_s for time_s, _ in bits]
        self._bits = [value for _, value in bits]
        self._zero_times = [t for t, w in zip(track.times, track.power, strict=False) if w <= 0]

    def measure(
        self, start_s: float, end_s: float, edges: tuple[Edge, Edge] | None = None, short_ok: bool = True
    ) -> WindowEnergy:
        """Energy between `start_s` and `end_s`; `edges` are counter readings taken for this window."""
        result = WindowEnergy(end_s - start_s)
        self._integrate(result, start_s, end_s)
        healthy = self._count(result, start_s, end_s, edges)
        self._choose(result, healthy)
        self._mark(result, start_s, end_s, short_ok)
        if result.gross_j is None:
            self._explain(result, start_s, end_s)
        return result

    def throttle_bits(self, start_s: float, end_s: float) -> int:
        """All throttle bits that were seen in the window, or-ed."""
        seen = 0
        for bits in self._bits[bisect_left(self._bit_times, start_s) : bisect_right(self._bit_times, end_s)]:
            seen |= bits
        return seen

    def _covers(self, curve: Curve, start_s: float, end_s: float) -> bool:
        return curve.times[0] <= start_s + self._hold_s and curve.times[-1] >= end_s - self._hold_s

    def _integrate(self, result: WindowEnergy, start_s: float, end_s: float) -> None:
        if self.power is None or not self._covers(self.power, start_s, end_s):
            return
        result.integral_j = self.power.between(start_s, end_s)
        if overlapping(self.gaps, start_s, end_s) or self._open(self.power, start_s, end_s):
            result.flags.append("gap")

    def _open(self, curve: Curve, start_s: float, end_s: float) -> bool:
        """Whether power had to be held beyond its samples for longer than samples are apart.

        While a device answers a sample follows sooner or later. Behind the last sample of a lost one nothing does.
        """
        spacing_s = min(self.track.gap_s, 5 * self.track.spacing_s)
        late_s = 0.0 if self.track.lost is not None else spacing_s
        return curve.times[0] > start_s + spacing_s or curve.times[-1] < end_s - late_s

    def _count(self, result: WindowEnergy, start_s: float, end_s: float, edges: tuple[Edge, Edge] | None) -> bool:
        """Fill `counter_j`; return whether the counter was healthy in the window."""
        if not self.track.device.has_counter:
            return False
        inside, stood_s = self._counter_points(start_s, end_s), 0.0
        if edges is not None:
            first, last = edges
            if first.joules is None or last.joules is None:
                return False
            result.counter_j = last.joules - first.joules
            result.aligned = first.aligned and last.aligned
            inside = [(first.time_s, first.reading_j or 0.0), *inside, (last.time_s, last.reading_j or 0.0)]
            stood_s = max(first.stood_s, last.stood_s)
        elif self.power is None:
            if self.counter is None or not self._covers(self.counter, start_s, end_s):
                return False
            result.counter_j = self.counter.between(start_s, end_s)
            if len(inside) < FEW_TICKS:
                result.flags.append("coarse")
            inside = [(start_s, self.counter.at(start_s)), *inside, (end_s, self.counter.at(end_s))]
        elif len(inside) > 1 and inside[-1][0] - inside[0][0] >= self._long_s:
            rim = self.power.between(start_s, inside[0][0]) + self.power.between(inside[-1][0], end_s)
            result.counter_j = inside[-1][1] - inside[0][1] + rim
        return self._healthy(result, inside, stood_s)

    def _healthy(self, result: WindowEnergy, points: list[tuple[float, float]], stood_s: float) -> bool:
        continuous = self.track.device.counter_tick_s is None
        tick_s = CONTINUOUS_TICK_S if continuous else self._slowest_tick_s
        health = counter_health([t for t, _ in points], [j for _, j in points], tick_s)
        # An unwrapped counter never falls: a step back is the order in which two threads have read it.
        reset = health.reset and not continuous
        stuck = health.stuck or stood_s > self._still_s
        if reset:
            result.flags.append("counter_reset")
        elif stuck:
            result.flags.append("counter_stuck")
        # In a window far below a tick what was carried to both edges may outweigh what was used.
        return not (reset or stuck) and result.counter_j is not None and result.counter_j >= 0

    def _counter_points(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        if self.counter is None:
            return []
        low, high = bisect_left(self.counter.times, start_s), bisect_right(self.counter.times, end_s)
        return list(zip(self.counter.times[low:high], self.counter.cumulative[low:high], strict=True))

    def _choose(self, result: WindowEnergy, healthy: bool) -> None:
        certain = result.aligned or result.seconds >= self._long_s
        if healthy and (certain or result.integral_j is None):
            result.method, result.gross_j = "counter", result.counter_j
            if not certain and self.track.device.counter_tick_s is not None:
                result.flags.append("unaligned")
        elif result.integral_j is not None:
            result.method, result.gross_j = "integral", result.integral_j

    def _mark(self, result: WindowEnergy, start_s: float, end_s: float, short_ok: bool) -> None:
        if not short_ok and result.seconds < SHORT_WINDOW_S:
            result.flags.append("short")
        sparse = result.method == "integral" and result.seconds >= 1.0
        if sparse and self.track.count(start_s, end_s) < FEW_SAMPLES:
            result.flags.append("coarse")
        if result.seconds < FEW_TICKS * self.tick_s and self.track.device.counter_tick_s is not None:
            result.flags.append("under_five_ticks")
        difference = result.difference
        if difference is not None and abs(difference) > DIFFER:
            result.flags.append("differ")
        bits = self.throttle_bits(start_s, end_s)
        if bits & THROTTLE_BITS:
            result.flags.append("throttled")
        if bits & POWER_CAP_BITS:
            result.flags.append("power_capped")
        if overlapping(self.track.steps, start_s, end_s):
            result.flags.append("clock_step")
        if _any_between(self._zero_times, start_s, end_s):
            result.flags.append("zero_power")
        if _any_between(self.track.error_times, start_s, end_s):
            result.flags.append("read_errors")

    def _explain(self, result: WindowEnergy, start_s: float, end_s: float) -> None:
        track = self.track
        # A loss may be noticed only when the window is closed; its readings then end before it.
        seen_s = self.power.times[-1] if self.power is not None else -math.inf
        if track.lost is not None and min(track.lost.time_s, seen_s) <= end_s:
            result.flags.append("lost")
            result.reason = track.lost.text
        elif track.errors:
            result.reason = track.errors[-1].text
        else:
            result.reason = self._uncovered(result)
        if self.power is not None and start_s < self.power.times[-1] < end_s:
            result.partial_j = self.power.between(max(start_s, self.power.times[0]), self.power.times[-1])

    def _uncovered(self, result: WindowEnergy) -> str:
        """Why there is no energy although no reading failed."""
        device = self.track.device
        if "counter_stuck" in result.flags:
            counter: str | None = "the energy counter stood still"
        elif result.counter_j is not None:
            counter = "the window is too short for the energy counter"
        else:
            counter = device.missing.get("counter")
        power = "no samples of power cover the window" if device.has_power else device.missing.get("power")
        return "; ".join(text for text in (power, counter) if text) or "no reading covers the window"


def _any_between(times: Sequence[float], start_s: float, end_s: float) -> bool:
    place = bisect_left(times, start_s)
    return place < len(times) and times[place] <= end_s

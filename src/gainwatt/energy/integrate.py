"""Pure arithmetic of energy: integrals with closed edges, counter differences, tick alignment.

Nothing here reads a device or a clock. Times are seconds on one monotonic clock, power is in watts, energy in
joules.

Why closed edges: an integral over only those samples that lie inside a window loses the part between the
window's edge and its first or last sample. At 10 Hz that is up to 0.2 s of every window, 10 % of a window of 2
s and all of a window of 50 ms. `Curve` therefore carries the samples on both sides of an edge and interpolates
between them.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_TICK_S = 0.1
"""Update period of the NVML energy counter, assumed when it could not be observed."""


@dataclass(frozen=True)
class Curve:
    """Cumulative energy over time.

    `times` (s, strictly increasing) and `cumulative` (J) have one length. `watts` has the same length where the
    curve was integrated from power; it is None where the curve is a counter that was read at `times`.
    """

    times: Sequence[float]
    cumulative: Sequence[float]
    watts: Sequence[float] | None = None

    def at(self, time_s: float) -> float:
        """Joules from the first point to `time_s`; beyond either end the power of that end is held."""
        times, total = self.times, self.cumulative
        if time_s <= times[0]:
            return total[0] - self._end_power(0) * (times[0] - time_s)
        if time_s >= times[-1]:
            return total[-1] + self._end_power(-1) * (time_s - times[-1])
        right = bisect_right(times, time_s)
        left = right - 1
        span = times[right] - times[left]
        part = time_s - times[left]
        if self.watts is None:
            return total[left] + (total[right] - total[left]) * part / span
        slope = (self.watts[right] - self.watts[left]) / span
        return total[left] + self.watts[left] * part + 0.5 * slope * part * part

    def between(self, start_s: float, end_s: float) -> float:
        """Joules from `start_s` to `end_s`, both edges closed."""
        return self.at(end_s) - self.at(start_s)

    def _end_power(self, end: int) -> float:
        return self.watts[end] if self.watts is not None else 0.0


def power_curve(times: Sequence[float], watts: Sequence[float]) -> Curve | None:
    """Integrate timestamped power (W) by the trapezoid rule; None without any sample.

    Every sample counts, also when it repeats the one before: a constant load is constant, not missing.
    """
    if not times:
        return None
    cumulative = [0.0]
    for index in range(1, len(times)):
        step = times[index] - times[index - 1]
        cumulative.append(cumulative[-1] + 0.5 * (watts[index] + watts[index - 1]) * step)
    return Curve(times, cumulative, watts)


def counter_curve(times: Sequence[float], joules: Sequence[float]) -> Curve | None:
    """Curve through the readings of an energy counter; None with fewer than two readings."""
    return Curve(times, joules) if len(times) > 1 else None


def gaps(times: Sequence[float], longest_s: float) -> list[tuple[float, float]]:
    """Stretches between neighbouring samples that are longer than `longest_s`, as (start, end) in seconds."""
    return [(a, b) for a, b in itertools.pairwise(times) if b - a > longest_s]


def overlapping(stretches: Sequence[tuple[float, float]], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Those of the sorted `stretches` that overlap [start_s, end_s]."""
    first = bisect_left(stretches, (start_s, start_s))
    if first and stretches[first - 1][1] > start_s:
        first -= 1
    found = []
    for stretch in stretches[first:]:
        if stretch[0] >= end_s:
            break
        found.append(stretch)
    return found


@dataclass(frozen=True)
class CounterHealth:
    """What a series of counter readings says about the counter itself."""

    reset: bool
    stuck: bool

    @property
    def usable(self) -> bool:
        """True when differences of the counter are energies."""
        return not (self.reset or self.stuck)


def counter_health(times: Sequence[float], joules: Sequence[float], tick_s: float = DEFAULT_TICK_S) -> CounterHealth:
    """Judge consecutive readings: a decrease is a reset, no change over five ticks or more is a stuck counter.

    Readings closer than five ticks are judged together with their successors, so that two quick readings inside
    one tick are no sign of a stuck counter.
    """
    reset = stuck = False
    anchor = 0
    for index in range(1, len(times)):
        if joules[index] < joules[index - 1]:
            reset = True
        if joules[index] != joules[anchor]:
            anchor = index
        elif times[index] - times[anchor] >= 5 * tick_s:
            stuck = True
    return CounterHealth(reset, stuck)


def carry_from_tick(counter_j: float, power_w: float, tick_s: float, edge_s: float) -> float:
    """Energy at `edge_s`: the counter last changed at `tick_s` to `counter_j`, the power since is `power_w`."""
    return counter_j + power_w * (edge_s - tick_s)


def split_tick(
    before_j: float, after_j: float, next_tick_s: float, period_s: float, edge_s: float, power_w: float
) -> float:
    """Energy at an edge that lies between two counter ticks.

    The counter showed `before_j` at the edge and changes to `after_j` at `next_tick_s`, one `period_s` after
    its tick before. The load ran at `power_w` up to the edge and at an unknown power behind it, so the share in
    front of the edge is `power_w` times its time, and never more than what the counter saw in the whole tick.
    """
    carried = carry_from_tick(before_j, power_w, next_tick_s - period_s, edge_s)
    return min(carried, after_j)


def relative_difference(first: float | None, second: float | None) -> float | None:
    """(first − second) / second, or None where one of them is missing or `second` is zero."""
    if first is None or second is None or second == 0:
        return None
    return (first - second) / second

"""Power of one window as other projects average it: plain means of samples, and a trapezoid over ten samples a second.

Our own joules come from the energy counter and the integral with both edges closed (gainwatt.energy). What stands here
is kept beside them, so that numbers that others publish can be formed by their own definitions from the same samples.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from gainwatt.energy.device import GPU_BOARD
from gainwatt.energy.meter import EnergyMeter

GRID_S = 0.1


def window_power(meter: EnergyMeter, start_s: float, end_s: float) -> dict[str, Any]:
    """Sums over the GPU boards for the window [start_s, end_s] (seconds since the meter's window began).

    `sampled_w`: mean of all samples above zero in the window. `trapezoid_j`: trapezoid over samples 0.1 s apart, from
    the first to the last of them. `idle_w`: idle power before the work. Each is None where a board has none of it.
    """
    origin = meter.start_s or 0.0
    report = meter.report()
    boards = [n for n, track in enumerate(meter.tracks) if track.device.info.boundary == GPU_BOARD]
    means, joules, idle, count = [], [], [], 0
    for number in boards:
        times, watts = meter.tracks[number].times, meter.tracks[number].power
        low, high = bisect_left(times, origin + start_s), bisect_right(times, origin + end_s)
        means.append(mean_above_zero(watts[low:high]))
        joules.append(trapezoid_j(*thinned(times[low:high], watts[low:high])))
        idle.append(report.idle_used_w(number))
        count += high - low
    return {
        "power_samples": count,
        "sampled_w": total(means),
        "trapezoid_j": total(joules),
        "idle_w": total(idle),
    }


def mean_above_zero(watts: Sequence[float]) -> float | None:
    """Mean of the samples above zero; None where there is none."""
    kept = [value for value in watts if value > 0]
    return sum(kept) / len(kept) if kept else None


def thinned(times: Sequence[float], watts: Sequence[float], step_s: float = GRID_S) -> tuple[list[float], list[float]]:
    """The first sample, and then each that is at least `step_s` after the one kept before it."""
    kept: list[int] = []
    for place, time_s in enumerate(times):
        if not kept or time_s >= times[kept[-1]] + step_s - 1e-6:
            kept.append(place)
    return [times[place] for place in kept], [watts[place] for place in kept]


def trapezoid_j(times: Sequence[float], watts: Sequence[float]) -> float | None:
    """Joules between the first and the last sample; None with fewer than two."""
    if len(times) < 2:
        return None
    return sum((times[i + 1] - times[i]) * (watts[i] + watts[i + 1]) / 2 for i in range(len(times) - 1))


def total(values: Sequence[float | None]) -> float | None:
    """Sum over the boards; None where there is no board, or where one has no value."""
    present = [value for value in values if value is not None]
    return sum(present) if present and len(present) == len(values) else None

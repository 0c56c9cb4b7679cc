"""Race to sleep: which setting needs least energy until a deadline, as a function of the power at rest.

A setting that needs E joules and t seconds for the work, and rests until the deadline D, takes E + P·(D − t) joules,
P being the power at rest. Each setting is a straight line over P; the winner is the lower envelope of the lines. A
fast setting gains from a low P (race to sleep), a slow one from a high P. E is measured with the machine awake; P may
be lower than the idle power that was measured, where the machine can sleep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SAME = 1e-9
"""Crossings that differ by less than this share are one: they differ by rounding alone."""


@dataclass(frozen=True)
class Segment:
    """`arm` needs least from `low_w` to `high_w` (None: without end)."""

    arm: str
    low_w: float
    high_w: float | None


def total_j(energy_j: float, seconds: float, deadline_s: float, idle_w: float) -> float:
    """Joules until the deadline. Raises ValueError where the work is not done by then."""
    if seconds > deadline_s:
        raise ValueError(f"the work takes {seconds:g} s, and the deadline is {deadline_s:g} s")
    return energy_j + idle_w * (deadline_s - seconds)


def winners(work: Mapping[str, tuple[float, float]], deadline_s: float) -> list[Segment]:
    """Lower envelope over the power at rest, from 0 W on; `work` is arm -> (joules, seconds).

    Arms that miss the deadline take no part. Of equal lines the first name wins.
    """
    lines = {name: (energy, deadline_s - seconds) for name, (energy, seconds) in work.items() if seconds <= deadline_s}
    if not lines:
        return []
    found: list[Segment] = []
    power = 0.0
    arm = min(lines, key=lambda name: (lines[name][0], lines[name][1], name))
    while True:
        energy, slope = lines[arm]
        # Only a flatter line can take over, where the two cross: not before `power`, but for rounding.
        ahead = {
            name: max(power, (energy - other) / (flatter - slope))
            for name, (other, flatter) in lines.items()
            if flatter < slope
        }
        if not ahead:
            return [*found, Segment(arm, power, None)]
        following = min(ahead, key=lambda name: (ahead[name], lines[name][1], name))
        if ahead[following] > power * (1 + _SAME):
            found.append(Segment(arm, power, ahead[following]))
        arm, power = following, ahead[following]

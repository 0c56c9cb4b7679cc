"""Idle power on both sides of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gainwatt.energy.clock import Runtime
from gainwatt.energy.device import GPU_BOARD
from gainwatt.energy.sampler import Sampler
from gainwatt.energy.track import Track

if TYPE_CHECKING:
    from gainwatt.energy.meter import EnergyMeter

SETTLE_FLAT_S = 4.0
"""Power must have been flat for this long before it counts as that of a board at rest: longer than the afterglow of
another process (about 3 s on an H200)."""
SETTLE_LIMIT_S = 20.0
"""How long to wait for that; three times `idle_s` where that is longer."""
SETTLE_STEP_S = 0.5
SETTLE_SEEN_S = 1.5
"""After that the end of a steady load is seen: a driver's own record of power comes about a second late."""

Span = tuple[float, float]


def idle_at_rest(
    tracks: Sequence[Track], sampler: Sampler | None, runtime: Runtime, idle_s: float
) -> tuple[Span | None, bool]:
    """(start and end in seconds of idle power before the work, whether power came to rest).

    This process holds no context on the board yet. A board stays in a higher state for a while after another process's
    context ended (on an H200 about 3 s at 126 W before it falls to 81 W), and that state is flat. So the span is moved
    on until power was flat for longer than that, as far as samples reach back: the driver's record holds the seconds
    before the meter began. Without a reading of power there is nothing to wait for. None where nothing is measured.
    """
    if not idle_s or not tracks:
        return None, True
    limit = runtime.now() + max(SETTLE_LIMIT_S, 3 * idle_s)
    flat_s = max(idle_s, SETTLE_FLAT_S)
    _sleep(sampler, runtime, idle_s)
    while True:
        now = runtime.now()
        settled = all(_at_rest(track, now - flat_s, now) for track in tracks)
        if settled or now >= limit:
            return (now - idle_s, now), settled
        _sleep(sampler, runtime, SETTLE_STEP_S)


def wait_for_rest(meter: EnergyMeter, patience_s: float = SETTLE_LIMIT_S) -> bool | None:
    """Wait inside a started meter until the boards are at rest again, at most `patience_s`.

    For work in processes of its own, one after the other: what a board draws after one has ended (see `idle_at_rest`)
    would be charged to the next. False when patience ended, None where no board tells its power. Never raises.
    """
    boards = [t for t in meter.tracks if t.device.info.boundary == GPU_BOARD and t.device.has_power and t.lost is None]
    if not boards:
        return None
    deadline = meter.runtime.now() + patience_s
    _sleep(meter.sampler, meter.runtime, SETTLE_SEEN_S)
    while not all(_at_rest(track, meter.runtime.now() - SETTLE_FLAT_S, meter.runtime.now()) for track in boards):
        if meter.runtime.now() >= deadline:
            return False
        _sleep(meter.sampler, meter.runtime, SETTLE_STEP_S)
    return True


def idle_with_context(tracks: Sequence[Track], runtime: Runtime, idle_s: float) -> Span | None:
    """Span of idle power after the work, with this process's context still held on the board; None where not measured.

    That costs more than a board at rest (121-125 W against 81 W on an H200), so it tells what holding the board costs;
    net energy subtracts the power before. Boards hold their clocks up for a moment after the work: the first third
    does not count.
    """
    if not idle_s or not tracks:
        return None
    begin = runtime.now()
    runtime.sleep(idle_s)
    return begin + idle_s / 3, runtime.now()


def _sleep(sampler: Sampler | None, runtime: Runtime, seconds: float) -> None:
    runtime.sleep(seconds)
    if sampler is not None:
        sampler.refresh()


def _at_rest(track: Track, start_s: float, end_s: float) -> bool:
    """Whether power was flat over the whole span; true without samples, where waiting tells nothing."""
    if track.lost is not None or not track.times:
        return True
    return track.times[0] <= start_s + 2 * track.gap_s and track.steady(start_s, end_s)

"""The edges of a window on the energy counter.

The counter changes about every 100 ms. A plain difference of two readings therefore belongs to a window that is
up to one tick longer or shorter than the one meant: 5 % at 2 s. Here an edge is placed on the counter's own
ticks:

    counter   ____/____/____/____/____/____/____/____/____
                  ^                             |     ^
             wait for a tick,              work ends  next tick: with the known period it
             then start the work           here (E)   tells where the tick before E was

`open_edge` waits for a tick before the work starts (at most a tick, outside of the window). `close_edge` reads
the counter when the work has ended, then waits for the next tick, also outside of the window, and carries the
reading to the edge with the power that ran up to it, capped by what the counter saw in that tick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gainwatt.energy.clock import Runtime
from gainwatt.energy.device import DeviceError
from gainwatt.energy.integrate import carry_from_tick, split_tick
from gainwatt.energy.track import Track

SPIN_SLEEP_S = 0.001
TICK_PATIENCE_S = 1.2
"""How long to wait for a tick before the counter is taken as it is; a dozen of the usual 0.1 s."""


SAMPLES_PER_TICK = 5.5
"""With that many samples of power in a tick they tell better than one reading how its joules are spread."""


@dataclass(frozen=True)
class Edge:
    """One edge of a window on one counter: `joules` is the counter carried to `time_s`, None when unreadable."""

    time_s: float
    joules: float | None
    aligned: bool
    reading_j: float | None = None
    tick_time_s: float | None = None
    stood_s: float = 0.0
    """For how long a tick was waited for in vain."""


@dataclass(frozen=True)
class _Tick:
    time_s: float
    joules: float
    changed: bool


def open_edge(tracks: Sequence[Track], runtime: Runtime) -> tuple[float, list[Edge]]:
    """Wait until every counter has ticked; return the start of the window and one edge per track."""
    ticks = _wait_for_ticks(tracks, runtime)
    start = runtime.now()
    return start, [_carried(track, tick, start) for track, tick in zip(tracks, ticks, strict=True)]


def close_edge(
    tracks: Sequence[Track], runtime: Runtime, periods_s: Sequence[float | None]
) -> tuple[float, list[Edge]]:
    """End the window now; wait for the ticks that follow; return the end and one edge per track.

    `periods_s` holds the observed tick period of each track's counter, None where it is unknown.
    """
    end = runtime.now()
    powers = [_power(track) for track in tracks]
    readings = [math.nan] * len(tracks)
    # Continuous counters first: they are exact at the moment of reading, and the others take milliseconds each.
    for index in sorted(range(len(tracks)), key=lambda number: not _continuous(tracks[number])):
        if _counts(tracks[index]):
            readings[index] = tracks[index].read_counter()[1]
    ticks = _wait_for_ticks(tracks, runtime, readings)
    edges = []
    for track, power, reading, tick, period in zip(tracks, powers, readings, ticks, periods_s, strict=True):
        edges.append(_closed(track, end, power, reading, tick, period))
    return end, edges


def tick_period_s(track: Track, runtime: Runtime) -> float | None:
    """Observed update period of the counter in seconds: the time between two ticks; None when it does not tick."""
    if not _counts(track) or _continuous(track):
        return None
    first = _wait_for_ticks([track], runtime)[0]
    second = _wait_for_ticks([track], runtime)[0] if first is not None and first.changed else None
    if first is None or second is None or not second.changed:
        return None
    return second.time_s - first.time_s


def _closed(
    track: Track,
    end: float,
    power: float | None,
    joules: float,
    tick: _Tick | None,
    period: float | None,
) -> Edge:
    if math.isnan(joules):
        return Edge(end, None, aligned=False)
    if _continuous(track):
        return Edge(end, joules, aligned=True, reading_j=joules)
    if tick is None or not tick.changed or period is None:
        stood_s = tick.time_s - end if tick is not None and not tick.changed else 0.0
        return Edge(end, joules, aligned=False, reading_j=joules, stood_s=stood_s)
    shared = _shared(track, tick, joules, period, end)
    if shared is not None:
        return Edge(end, shared, aligned=True, reading_j=joules, tick_time_s=tick.time_s)
    if power is None:
        # No sensor of power: the mean of the tick that holds the edge is the best guess at the power in front of it.
        power = (tick.joules - joules) / period
    at_edge = split_tick(joules, tick.joules, tick.time_s, period, end, power)
    return Edge(end, at_edge, aligned=True, reading_j=joules, tick_time_s=tick.time_s)


def _shared(track: Track, tick: _Tick, joules: float, period: float, end: float) -> float | None:
    """Counter at `end`, the tick's joules shared as the power samples say; None where they are too few for that.

    One reading of power stands for 0.1 s well enough, and for a slower tick it does not.
    """
    if period < SAMPLES_PER_TICK * track.spacing_s:
        return None
    track.take_record()
    curve, begin = track.power_curve(), tick.time_s - period
    if curve is None or curve.times[0] > begin or curve.times[-1] < tick.time_s - period / SAMPLES_PER_TICK:
        return None
    whole = curve.between(begin, tick.time_s)
    if whole <= 0:
        return None
    return joules + (tick.joules - joules) * curve.between(begin, end) / whole


def _carried(track: Track, tick: _Tick | None, edge_s: float) -> Edge:
    if _continuous(track) and _counts(track):
        joules = track.read_counter()[1]
        return Edge(edge_s, None if math.isnan(joules) else joules, aligned=True, reading_j=joules)
    if tick is None:
        return Edge(edge_s, None, aligned=False)
    if not tick.changed:
        return Edge(edge_s, tick.joules, aligned=False, reading_j=tick.joules, stood_s=TICK_PATIENCE_S)
    power = _power(track)
    if power is None:
        return Edge(edge_s, tick.joules, aligned=True, reading_j=tick.joules, tick_time_s=tick.time_s)
    joules = carry_from_tick(tick.joules, power, tick.time_s, edge_s)
    return Edge(edge_s, joules, aligned=True, reading_j=tick.joules, tick_time_s=tick.time_s)


def _wait_for_ticks(
    tracks: Sequence[Track], runtime: Runtime, seen_j: Sequence[float] | None = None
) -> list[_Tick | None]:
    """Next tick of each counter: `changed` is False where none came in time; None where it cannot be read."""
    found: list[_Tick | None] = [None] * len(tracks)
    last: dict[int, tuple[float, float]] = {}
    for index, track in enumerate(tracks):
        if not _counts(track) or _continuous(track):
            continue
        time_s, joules = (runtime.now(), seen_j[index]) if seen_j is not None else track.read_counter()
        if not math.isnan(joules):
            last[index] = (time_s, joules)
    deadline = runtime.now() + TICK_PATIENCE_S
    while last and runtime.now() < deadline:
        runtime.sleep(SPIN_SLEEP_S)
        for index in list(last):
            before, old = last[index]
            time_s, joules = tracks[index].read_counter(keep=False)
            if math.isnan(joules):
                del last[index]
            elif joules != old:
                # The tick fell between the two readings.
                found[index] = _Tick(0.5 * (before + time_s), joules, changed=True)
                del last[index]
            else:
                last[index] = (time_s, old)
    for index, (time_s, joules) in last.items():
        found[index] = _Tick(time_s, joules, changed=False)
    return found


def _counts(track: Track) -> bool:
    return track.device.has_counter and track.lost is None


def _continuous(track: Track) -> bool:
    return track.device.counter_tick_s is None


def _power(track: Track) -> float | None:
    if not track.device.has_power or track.lost is not None:
        return None
    try:
        return track.device.power_w()
    except DeviceError:
        return None

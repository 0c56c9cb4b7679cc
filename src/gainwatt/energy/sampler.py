"""Reads all devices on a fixed grid, cheaply.

Power. Where the driver keeps its own record of power (see gainwatt.energy.nvml_power), one call brings everything since
the last one, so that the thread wakes once in half the record's length (`RECORD_SHARE`; 1.2 s at most): a thread that
gets no time for another half loses no sample. Where there is no record, power is polled `hz` times a second.

Slow channels (temperature, clocks, throttle reasons, memory) are read every `SLOW_PERIOD_S` or a little later: on an
H200 each costs 40-80 us of CPU time then, and up to 340 us when it is read twice a second. A throttling shorter than
that period is missed here; the driver's own count over the whole job is not (gainwatt.energy.nvml_throttle). Counters
that cost microseconds (RAPL) are read every `CHEAP_COUNTER_PERIOD_S`, well before they wrap. The NVML energy counter
costs milliseconds, so it is read the more rarely the more it costs: its share of a core stays below `COUNTER_SHARE`
where `COUNTER_PERIOD_MAX_S` allows. Process lists and fans are never read here; on some drivers they hold the lock
that kernel launches need.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gainwatt.energy.clock import Loop, Runtime
from gainwatt.energy.track import Track

RECORD_SHARE = 0.5
RECORD_PERIOD_MAX_S = 1.2
SLOW_PERIOD_S = 2.0
CHEAP_COUNTER_PERIOD_S = 0.5
COUNTER_SHARE = 0.0001
COUNTER_PERIOD_MIN_S = 1.0
COUNTER_PERIOD_MAX_S = 30.0


def counter_period_s(cost_s: float) -> float:
    """How often to read a counter that costs `cost_s` a call, in seconds between readings."""
    return min(max(cost_s / COUNTER_SHARE, COUNTER_PERIOD_MIN_S), COUNTER_PERIOD_MAX_S)


def round_period_s(track: Track) -> float:
    """How often `track` wants to be read, in seconds between rounds."""
    if track.device.counter_tick_s is None:
        return CHEAP_COUNTER_PERIOD_S
    if not track.device.has_power or track.lost is not None:
        return SLOW_PERIOD_S
    if track.feed is not None:
        return min(RECORD_SHARE * track.feed.span_s, RECORD_PERIOD_MAX_S)
    return 1.0 / track.hz


@dataclass
class _Lane:
    """One device and when each of its readings is due next (seconds on the monotonic clock)."""

    track: Track
    due_s: float = -1.0
    slow_s: float = -1.0
    counter_s: float = -1.0


class Sampler:
    """Reads `tracks` from one thread. `after_round` is called behind every round, on the same thread."""

    def __init__(
        self,
        tracks: Sequence[Track],
        runtime: Runtime,
        counter_cost_s: float = 0.0,
        after_round: Callable[[], None] = lambda: None,
    ) -> None:
        self.tracks = list(tracks)
        self.counter_period_s = counter_period_s(counter_cost_s)
        self.polls = array("d")
        self.period_s = min((round_period_s(track) for track in self.tracks), default=SLOW_PERIOD_S)
        # The meter has just read the dear counters itself, to learn their cost and their ticks.
        dear_s = runtime.now() + self.counter_period_s
        self._lanes = [_Lane(track, counter_s=dear_s) for track in self.tracks]
        self._runtime = runtime
        self._after_round = after_round
        self._loop: Loop | None = None

    def start(self) -> None:
        """Start sampling."""
        self._loop = self._runtime.start_loop(self.poll, self.period_s)

    def stop(self) -> None:
        """Stop sampling and take one last round, so that the last window is closed by a sample behind its edge.

        Where the thread hangs in the driver there is no last round: it would hang as well.
        """
        if self._loop is None or self._loop.stop():
            self.close_edge()
            self.poll(last=True)

    def close_edge(self) -> None:
        """Wait until the records hold a sample behind this moment: two of their spacings."""
        spacings = [track.spacing_s for track in self.tracks if track.feed is not None and track.lost is None]
        if spacings:
            self._runtime.sleep(2 * max(spacings))

    def refresh(self) -> None:
        """Take in what the records hold by now; for a report while sampling goes on."""
        for track in self.tracks:
            track.take_record()

    @property
    def cpu_s(self) -> float:
        """CPU time of the sampling thread in seconds."""
        return self._loop.cpu_s if self._loop is not None else 0.0

    def usage(self) -> tuple[float, float]:
        """(time of the last round, CPU time of the thread up to its end), both in seconds; for shares in between."""
        return (self.polls[-1] if self.polls else self._runtime.now()), self.cpu_s

    def poll(self, last: bool = False) -> None:
        """One round over all devices. Never raises."""
        now = self._runtime.now()
        self.polls.append(now)
        # Rounds come a little early or late; what is due within half a round is taken in this one.
        soon = now + 0.5 * self.period_s
        for lane in self._lanes:
            if last or soon >= lane.due_s:
                self._round(lane, now, soon, last)
        self._adapt()
        self._after_round()

    def _round(self, lane: _Lane, now: float, soon: float, last: bool) -> None:
        track = lane.track
        lane.due_s = now + round_period_s(track)
        slow = last or soon >= lane.slow_s
        if slow:
            lane.slow_s = now + SLOW_PERIOD_S
        # Counters without ticks (RAPL) are cheap and have no power reading beside them; without power the counter is
        # all there is.
        often = track.device.counter_tick_s is None or not track.device.has_power
        counter = last or often or (slow and now >= lane.counter_s)
        if counter:
            lane.counter_s = now + self.counter_period_s
        track.sample(slow, counter)

    def _adapt(self) -> None:
        """Wake up more often once a record has ended and its board must be polled."""
        period_s = min((round_period_s(track) for track in self.tracks), default=self.period_s)
        if self._loop is not None and period_s < self.period_s:
            self.period_s = period_s
            self._loop.set_period(period_s)

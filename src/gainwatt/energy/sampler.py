"""Reads all devices on a fixed grid, cheaply.

Every round reads power. Every `SLOW_PERIOD_S` it also reads the slow channels (temperature, clocks, throttle reasons,
memory): on an H200 each costs 40-80 us of CPU time then, and up to 340 us when it is read twice a second. A throttling
shorter than that period may be missed. Counters that cost microseconds (RAPL) are read every `CHEAP_COUNTER_PERIOD_S`,
well before they wrap. The NVML energy counter costs milliseconds, so it is read the more rarely the more it costs: its
share of a core stays below `COUNTER_SHARE` where `COUNTER_PERIOD_MAX_S` allows. Process lists and fans are never read
here; on some drivers they hold the lock that kernel launches need.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from gainwatt.energy.clock import Loop, Runtime
from gainwatt.energy.integrate import gaps
from gainwatt.energy.track import Track

SLOW_PERIOD_S = 2.0
CHEAP_COUNTER_PERIOD_S = 0.5
COUNTER_SHARE = 0.0001
COUNTER_PERIOD_MIN_S = 1.0
COUNTER_PERIOD_MAX_S = 30.0
GAP_PERIODS = 2.5
"""A stretch without a sample that is longer than this many periods is a gap."""


def counter_period_s(cost_s: float) -> float:
    """How often to read a counter that costs `cost_s` a call, in seconds between readings."""
    return min(max(cost_s / COUNTER_SHARE, COUNTER_PERIOD_MIN_S), COUNTER_PERIOD_MAX_S)


class Sampler:
    """Polls `tracks` at `hz` from one thread."""

    def __init__(self, tracks: Sequence[Track], hz: float, runtime: Runtime, counter_cost_s: float = 0.0) -> None:
        self.tracks = list(tracks)
        self.period_s = 1.0 / hz
        self.counter_period_s = counter_period_s(counter_cost_s)
        self.polls = array("d")
        self._runtime = runtime
        self._slow_every = max(1, round(SLOW_PERIOD_S / self.period_s))
        self._cheap_every = max(1, round(CHEAP_COUNTER_PERIOD_S / self.period_s))
        self._counter_due = -1.0
        self._loop: Loop | None = None

    def start(self) -> None:
        """Start sampling."""
        self._loop = self._runtime.start_loop(self.poll, self.period_s)

    def stop(self) -> None:
        """Stop sampling and take one last round, so that the last window is closed by a sample behind its edge.

        Where the thread hangs in the driver there is no last round: it would hang as well.
        """
        if self._loop is None or self._loop.stop():
            self.poll(last=True)

    @property
    def cpu_s(self) -> float:
        """CPU time of the sampling thread in seconds."""
        return self._loop.cpu_s if self._loop is not None else 0.0

    def poll(self, last: bool = False) -> None:
        """One round over all devices. Never raises."""
        now = self._runtime.now()
        slow = last or len(self.polls) % self._slow_every == 0
        cheap = last or len(self.polls) % self._cheap_every == 0
        counter = last or (slow and now >= self._counter_due)
        if counter:
            self._counter_due = now + self.counter_period_s
        self.polls.append(now)
        for track in self.tracks:
            # Counters without ticks (RAPL) are cheap and have no power reading beside them.
            rapl = track.device.counter_tick_s is None
            track.sample(cheap if rapl else slow, cheap if rapl else counter)

    def gaps(self) -> list[tuple[float, float]]:
        """Stretches between rounds that are longer than `GAP_PERIODS` periods."""
        return gaps(self.polls, GAP_PERIODS * self.period_s)

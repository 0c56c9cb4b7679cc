"""Time for the meter: a monotonic clock and the thread that samples on a fixed grid."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

_SLEEP_BELOW_S = 0.25


class Loop(Protocol):
    """A running sampler loop."""

    @property
    def cpu_s(self) -> float:
        """CPU time that the loop has used so far, in seconds."""

    def set_period(self, period_s: float) -> None:
        """Take `period_s` from the next round on."""

    def stop(self) -> bool:
        """End the loop and wait for its last round; False when that round does not end."""


class Runtime(Protocol):
    """What the meter needs of time. Tests replace it by a clock that they move themselves."""

    def now(self) -> float:
        """Seconds on a monotonic clock."""

    def wall(self) -> float:
        """Seconds since 1970; may jump."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def start_loop(self, poll: Callable[[], None], period_s: float) -> Loop:
        """Call `poll` now and then every `period_s` until the loop is stopped."""


class SystemRuntime:
    """The real clock and a daemon thread."""

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def start_loop(self, poll: Callable[[], None], period_s: float) -> Loop:
        """Start the thread; see `ThreadLoop`."""
        return ThreadLoop(poll, period_s)


class ThreadLoop:
    """Calls `poll` on a fixed grid; a late round skips the grid points that it missed instead of catching up."""

    def __init__(self, poll: Callable[[], None], period_s: float) -> None:
        self._poll = poll
        self._period_s = period_s
        self._cpu_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gainwatt-energy", daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """CPU time of the thread at the end of its last round, in seconds."""
        return self._cpu_s

    def set_period(self, period_s: float) -> None:
        """Take `period_s` from the next round on."""
        self._period_s = period_s

    def stop(self) -> bool:
        """End the thread; gives up waiting after 5 s, when a driver call hangs, and returns False."""
        self._ended.set()
        self._thread.join(timeout=5.0)
        return not self._thread.is_alive()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self._poll()
            self._cpu_s = time.thread_time()
            due += self._period_s
            delay = due - time.monotonic()
            if delay < 0:
                due += math.ceil(-delay / self._period_s) * self._period_s
                delay = due - time.monotonic()
            # A plain sleep costs two thirds of what a timed wait on a lock or event costs, so it is what a loop of many
            # rounds a second takes; in exchange `stop` waits for the rest of the period.
            if self._period_s < _SLEEP_BELOW_S:
                time.sleep(max(delay, 0.0))
            else:
                self._ended.wait(max(delay, 0.0))

"""The log of phases: two clock readings per phase, so that thousands of them cost nothing.

A phase's path is the path of the phase around it, a slash, and its name. Energies are computed afterwards.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, field

from gainwatt.energy.edges import Edge

Edges = tuple[Edge, ...]


@dataclass
class PathLog:
    """All occurrences of one path; `edges` and `errors` by occurrence number, where there are any."""

    name: str
    path: str
    depth: int
    starts: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    opening: dict[int, Edges] = field(default_factory=dict)
    closing: dict[int, Edges] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    measured: set[int] = field(default_factory=set)
    """Occurrences that asked for counter edges (`short_ok=False`)."""


class PhaseLog:
    """Paths in the order of their first appearance. Each thread has its own nesting."""

    def __init__(self) -> None:
        self.paths: dict[str, PathLog] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def enter(self, name: str) -> PathLog:
        """Push `name` on this thread's stack and return the log of the path that results."""
        stack = self._stack()
        path = f"{stack[-1]}/{name}" if stack else name
        with self._lock:
            log = self.paths.get(path)
            if log is None:
                log = self.paths[path] = PathLog(name, path, len(stack))
        stack.append(path)
        return log

    def leave(self, log: PathLog) -> None:
        """Take `log`'s path from this thread's stack; phases may close out of order, or on another thread."""
        stack = self._stack()
        for place in range(len(stack) - 1, -1, -1):
            if stack[place] == log.path:
                del stack[place]
                return

    def record(self, log: PathLog, start_s: float, end_s: float) -> int:
        """Keep one finished occurrence; return its number."""
        with self._lock:
            log.starts.append(start_s)
            log.ends.append(end_s)
            return len(log.starts) - 1

    def _stack(self) -> list[str]:
        stack: list[str] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

"""The parts of a GRPO step, each with its seconds, its joules and its own peak of memory.

    |------------------------------ step ------------------------------|
    |--- rollout ---|- score -|-------- update --------|- optimizer ---|

rollout     generating the completions
score       rewards, advantages, log-probabilities of the policy that generated
update      forward and backward passes over all completions, and clipping
optimizer   the optimizer's step

One part follows the other without a gap; a part that is not reached is absent. Peaks are reset where a part begins, so
that none reports another's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gainwatt.modeling import memory_mib, reset_peak_memory

STEP = "step"
PARTS = ("rollout", "score", "update", "optimizer")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak_rss() -> bool:
    """Start a new peak of this process's main memory; False where the kernel does not offer it (Linux: proc(5))."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_rss_mib() -> float | None:
    """Largest resident memory of this process since `reset_peak_rss`; None outside of Linux."""
    with contextlib.suppress(OSError, ValueError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def peaks_mib(*, rss_resets: bool) -> dict[str, float | None]:
    """Peaks since the last reset: allocated and reserved on the GPU, resident in main memory; None where unknown."""
    found: dict[str, float | None] = {"allocated": memory_mib()["peak_allocated_mib"], "reserved": None, "rss": None}
    if found["allocated"] is not None:
        import torch

        devices = range(torch.cuda.device_count())
        found["reserved"] = sum(torch.cuda.max_memory_reserved(i) for i in devices) / 2**20
    if rss_resets:
        found["rss"] = peak_rss_mib()
    return found


class StepWatch:
    """Says which part of a step runs now, and describes the step when it has ended.

    `phase(name)` is a context manager that meters a phase; it waits for queued GPU work at both edges.
    """

    def __init__(self, phase: Callable[[str], contextlib.AbstractContextManager[Any]]) -> None:
        self._phase = phase
        self._step = contextlib.ExitStack()
        self._open: contextlib.AbstractContextManager[Any] | None = None
        self._counts: dict[str, int] = {}
        self._row: dict[str, Any] = {}
        self._begun = self._part_begun = 0.0
        self._rss_resets = True
        self.part: str | None = None
        self.occurrences: dict[str, int] = {}
        """Number of the meter's entry of each path of the step that runs or ended last."""

    def begin(self) -> None:
        """A step begins."""
        self._row = {}
        self.occurrences = {STEP: self._count(STEP)}
        self._step = contextlib.ExitStack()
        self._step.enter_context(self._phase(STEP))
        self._begun = time.monotonic()

    def enter(self, part: str) -> None:
        """Go from the part that runs, if any, to `part`; each part runs once a step."""
        if self.part == part:
            return
        self.leave()
        self.part = part
        self.occurrences[part] = self._count(part)
        reset_peak_memory()
        self._rss_resets = reset_peak_rss()
        self._open = self._phase(part)
        self._open.__enter__()
        self._part_begun = time.monotonic()

    def leave(self) -> None:
        """End the part that runs, if any."""
        if self._open is None or self.part is None:
            return
        self._open.__exit__(None, None, None)
        self._row[f"{self.part}_s"] = time.monotonic() - self._part_begun
        for kind, value in peaks_mib(rss_resets=self._rss_resets).items():
            self._row[f"peak_{kind}_{self.part}_mib"] = value
        self._open = self.part = None

    @contextlib.contextmanager
    def rollout(self) -> Iterator[None]:
        """The rollout, and scoring after it; a rollout that fails stays the part that runs."""
        self.enter("rollout")
        yield
        self.enter("score")

    def end(self) -> dict[str, float | None]:
        """The step ends: seconds and peaks of the step and of each part, None for parts that were not reached."""
        self.leave()
        self._step.close()
        names = [f"{part}_s" for part in PARTS]
        names += [f"peak_{kind}_{part}_mib" for part in PARTS for kind in ("allocated", "reserved", "rss")]
        return {"step_s": time.monotonic() - self._begun, **{name: self._row.get(name) for name in names}}

    def _count(self, path: str) -> int:
        number = self._counts.get(path, -1) + 1
        self._counts[path] = number
        return number

"""Processes that the training script starts beside itself: none of them outlives it, however it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from gainwatt.engines.processes import alive, descendants, stop

_PR_SET_PDEATHSIG = 1  # prctl(2)
PATIENCE_S = 30.0


class Child:
    """A program in a process group of its own; `end` ends it and whatever it has started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
        self.process = subprocess.Popen(
            list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=_end_with_parent,  # noqa: PLW1509 - before any thread is started
        )  # fmt: skip

    def status(self) -> int | None:
        """Exit status as a shell gives it; None while the program runs."""
        code = self.process.poll()
        return None if code is None else code if code >= 0 else 128 - code

    def end(self, patience_s: float = PATIENCE_S) -> None:
        """Ask the program to end, wait, and kill what is left of it and of its own children."""
        started = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=patience_s)
            started |= descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if alive(started):
            stop(started, patience_s=2)


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM when the process that started this one is killed (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

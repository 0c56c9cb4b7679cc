"""Processes that an engine starts: none of them may outlive the script, however the script ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Let the kernel kill this process when the process that started it ends, even by SIGKILL.

    For the start of a spawned child (`__mp_main__`). A vLLM engine whose parent was killed would otherwise wait for
    work for good, and hold the GPU's memory. Does nothing where the system is not Linux.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the parent ended before the kernel knew
        os._exit(1)


def descendants(pid: int, *, direct: bool = False) -> dict[int, str]:
    """Living processes started by `pid`, directly or not: process id -> start time, which tells a reused id.

    Python's own resource tracker is left out: it ends by itself. Empty where there is no /proc.
    """
    parents: dict[int, tuple[int, str]] = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z" and b"resource_tracker" not in (folder / "cmdline").read_bytes():
                parents[int(folder.name)] = (int(fields[1]), fields[19])
    found: dict[int, str] = {}
    wanted = {pid}
    while wanted:
        wanted = {child for child, (parent, _) in parents.items() if parent in wanted and child not in found}
        found.update({child: parents[child][1] for child in wanted})
        if direct:
            break
    return found


def stop(processes: dict[int, str], *, patience_s: float = 10.0) -> list[int]:
    """End `processes` (as `descendants` names them): wait, then SIGTERM, then SIGKILL. Returns those that are left."""
    for number in (0, signal.SIGTERM, signal.SIGKILL):  # 0 sends nothing
        for pid in alive(processes):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while alive(processes) and time.monotonic() < deadline:
            time.sleep(0.05)
    return alive(processes)


def alive(processes: dict[int, str]) -> list[int]:
    """Those of `processes` that still run."""
    return [pid for pid, started in processes.items() if _start_time(pid) == started]


def _start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None where it has ended (or waits for its parent)."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]

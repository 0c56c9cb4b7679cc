"""Whose processes compute on a GPU: ours (this process, its ancestors and descendants) or somebody else's.

A training on several GPUs is one job of several processes: whatever its launcher has started is ours, too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS = "ours"
FOREIGN = "foreign"
UNKNOWN = "unknown"
LAUNCHED_VARIABLE = "GAINWATT_LAUNCHED_BY"
"""Process id of the launcher that has started all processes of this job."""


def classify(
    processes: Sequence[dict[str, Any]], own_pid: int | None = None, proc: Path = Path("/proc")
) -> list[dict[str, Any]]:
    """Copy each entry of `processes` (with `pid`) and add `owner`: `ours`, `foreign` or `unknown`.

    A pid that /proc does not list belongs to another pid namespace, as it does for every process when this one
    runs inside a container: then nobody can tell, and the answer is `unknown`.
    """
    own = os.getpid() if own_pid is None else own_pid
    ancestors = set(_ancestry(own, proc))
    launcher = os.environ.get(LAUNCHED_VARIABLE, "")
    roots = {own} | ({int(launcher)} & ancestors if launcher.isdigit() else set())
    result = []
    for process in processes:
        pid = int(process["pid"])
        line = _ancestry(pid, proc)
        if not line:
            owner = UNKNOWN
        elif roots & set(line) or pid in ancestors:
            owner = OURS
        else:
            owner = FOREIGN
        result.append({**process, "owner": owner})
    return result


def may_be_foreign(found: Sequence[dict[str, Any]], own_context: bool) -> bool:
    """Whether processes of unknown owner are more than this job explains.

    `found` holds classified processes with `seen` (`before` or `after` the work). Inside a container a job sees its own
    process under a pid that it cannot resolve: one new entry per board is its own, and one before the work as well
    when it used the GPU already (`own_context`).
    """
    before = {entry["pid"] for entry in found if entry["owner"] == UNKNOWN and entry["seen"] == "before"}
    after = {entry["pid"] for entry in found if entry["owner"] == UNKNOWN and entry["seen"] == "after"}
    return len(before) > int(own_context) or len(after | before) > 1


def _ancestry(pid: int, proc: Path) -> list[int]:
    """`pid` and its parents up to, not including, process 1; empty when /proc does not know `pid`."""
    line: list[int] = []
    while pid > 1 and pid not in line:
        parent = _parent(pid, proc)
        if parent is None:
            break
        line.append(pid)
        pid = parent
    return line


def _parent(pid: int, proc: Path) -> int | None:
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        # The command name may hold spaces and brackets; the fields behind the last bracket are fixed.
        return int(stat.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None

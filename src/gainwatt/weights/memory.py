"""Peak main memory of a part of this process's work.

`ru_maxrss` cannot be reset and starts at the size of the process that started this one; Linux's VmHWM can and does not
(https://www.kernel.org/doc/html/latest/filesystems/proc.html: writing 5 to clear_refs resets it).
"""

from __future__ import annotations

import resource
from pathlib import Path

_KIB_PER_MIB = 1024


def reset_peak_rss() -> bool:
    """Start a new peak; False where the system offers no such thing, and the peak stays the process's own."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_rss_mib() -> float:
    """Highest resident memory since `reset_peak_rss`; without VmHWM, the process's highest at all."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / _KIB_PER_MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB

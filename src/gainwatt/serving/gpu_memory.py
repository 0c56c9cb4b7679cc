"""GPU memory in use before a server started, while it ran and after it ended: did all of it come back?"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

TOLERANCE_MIB = 64.0
"""What a driver may keep of a context that has ended; other jobs' small changes disappear in it too."""


@dataclass
class GpuMemory:
    """MiB in use by GPU (label -> MiB), summed over all processes; `reason` says why there is none."""

    used_mib: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


def in_use() -> GpuMemory:
    """Memory in use on the GPUs that this process may see, by NVML; never raises."""
    from gainwatt.energy.nvml import open_nvml

    session = open_nvml(os.environ)
    try:
        if not session.devices:
            return GpuMemory(reason=session.reason or "no GPU is visible")
        found = {device.info.label: device.slow().memory_used_mib for device in session.devices}
    finally:
        session.close()
    silent = sorted(label for label, value in found.items() if value is None)
    if silent:
        return GpuMemory(reason=f"NVML does not tell the memory in use of {', '.join(silent)}")
    return GpuMemory({label: value for label, value in found.items() if value is not None})


def came_back(before: GpuMemory, loaded: GpuMemory, *, patience_s: float = 30.0) -> dict[str, Any]:
    """Wait until no GPU holds more than `before`, and say whether that happened.

    `gpu_memory_returned` is None where there is nothing to compare. Another job that starts on the same GPU meanwhile
    looks like memory that did not come back: the numbers are all given.
    """
    if before.reason is not None:
        return {"gpu_memory_returned": None, "gpu_memory_reason": before.reason, "gpu_memory_mib": {}}
    deadline = time.monotonic() + patience_s
    after = in_use()
    while _left(before, after) and time.monotonic() < deadline:
        time.sleep(0.25)
        after = in_use()
    if after.reason is not None:
        return {"gpu_memory_returned": None, "gpu_memory_reason": after.reason, "gpu_memory_mib": {}}
    left = _left(before, after)
    table = {
        label: {"before": value, "serving": loaded.used_mib.get(label), "after": after.used_mib.get(label)}
        for label, value in before.used_mib.items()
    }
    reason = None if not left else ", ".join(f"{label} holds {mib:.0f} MiB more" for label, mib in left.items())
    return {"gpu_memory_returned": not left, "gpu_memory_reason": reason, "gpu_memory_mib": table}


def _left(before: GpuMemory, after: GpuMemory) -> dict[str, float]:
    more = {label: after.used_mib.get(label, 0.0) - value for label, value in before.used_mib.items()}
    return {label: mib for label, mib in more.items() if mib > TOLERANCE_MIB}

"""For how long an NVIDIA board held its clocks down, counted by the driver itself.

Polling throttle reasons every two seconds misses what is shorter. Newer drivers also count the nanoseconds (fields
NVML_FI_DEV_PERF_POLICY_* and NVML_FI_DEV_CLOCKS_EVENT_REASON_* of the NVML API reference); reading them costs 1.1 ms on
an H200, too dear for the sampler and nothing at the two ends of a job.
"""

from __future__ import annotations

from typing import Any

from gainwatt.energy.flags import POWER_CAP_BITS, THROTTLE_BITS

# Field number → name in the record and the bits of nvmlClocksEventReasons that say the same.
FIELDS: dict[int, tuple[str, int]] = {
    74: ("power_limit", POWER_CAP_BITS),
    75: ("thermal", 0x20 | 0x40),
    269: ("software_thermal", 0x20),
    270: ("hardware_thermal", 0x40),
    271: ("hardware_power_brake", 0x80),
}
_BITS = dict(FIELDS.values())


def throttle_seconds(nvml: Any, handle: Any) -> dict[str, float]:
    """Seconds since the driver was loaded, by reason; reasons that the driver does not count are left out.

    Raises what the bindings raise.
    """
    values = nvml.nvmlDeviceGetFieldValues(handle, list(FIELDS))
    return {
        name: value.value.ullVal / 1e9
        for (name, _), value in zip(FIELDS.values(), values, strict=True)
        if value.nvmlReturn == 0
    }


def held_down_s(before: dict[str, float] | None, after: dict[str, float] | None) -> dict[str, float] | None:
    """Seconds in between by reason, reasons that did not occur left out; None where the driver does not count."""
    if not before or not after:
        return None
    steps = {name: after[name] - before[name] for name in after if name in before}
    return {name: round(seconds, 6) for name, seconds in steps.items() if seconds > 0}


def marks(held_s: dict[str, float] | None) -> list[str]:
    """`throttled` and `power_capped`, as far as these seconds say so."""
    bits = 0
    for name in held_s or {}:
        bits |= _BITS[name]
    found = ["throttled"] if bits & THROTTLE_BITS else []
    return found + (["power_capped"] if bits & POWER_CAP_BITS else [])

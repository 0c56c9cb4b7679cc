"""Energy of a stretch of time that is known only afterwards, e.g. the steady state of a load on a server."""

from __future__ import annotations

from typing import Any

from gainwatt.energy.device_report import rounded
from gainwatt.energy.meter import EnergyMeter


def energy_between(meter: EnergyMeter, start_s: float, end_s: float) -> dict[str, Any]:
    """Joules of all devices between two moments of the meter's clock (seconds), with method, marks and reasons.

    Keys: `seconds`, `gross_j`, `net_j`, `method`, `flags`, and `reason` or `net_reason` where a number is null. The
    edges are not on counter ticks: below 100 ticks the sampled power counts. Never raises because of a device.
    """
    report = meter.report()
    seconds = end_s - start_s
    windows = [reader.measure(start_s, end_s, short_ok=False) for reader in report.readers]
    gross = [window.gross_j for window in windows]
    nets = [report.net(number, window.gross_j, seconds) for number, window in enumerate(windows)]
    found: dict[str, Any] = {
        "seconds": rounded(seconds),
        "gross_j": _sum(gross),
        "net_j": _sum([joules for joules, _, _ in nets]),
        "method": "+".join(sorted({window.method for window in windows if window.method})) or None,
        "flags": sorted({flag for window in windows for flag in window.flags}),
    }
    if found["gross_j"] is None:
        lacking = next((window.reason for window in windows if window.gross_j is None), None)
        found["reason"] = lacking or report.no_meter()
    elif found["net_j"] is None:
        found["net_reason"] = next((reason for _, reason, _ in nets if reason is not None), "no device")
    return found


def _sum(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return rounded(sum(present)) if present and len(present) == len(values) else None

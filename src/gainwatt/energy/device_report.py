"""One device's entry in the `energy` block of a record."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from gainwatt.energy.device import GPU_BOARD, DeviceState
from gainwatt.energy.flags import THROTTLE_NAMES
from gainwatt.energy.nvml_throttle import held_down_s, marks
from gainwatt.energy.processes import FOREIGN, OURS, may_be_foreign
from gainwatt.energy.track import ERRORS_KEPT, Track
from gainwatt.energy.window import Reader, WindowEnergy

if TYPE_CHECKING:
    from gainwatt.energy.summary import Report

IDLE_DRIFT = 0.10
IDLE_UNSTEADY = 0.20


def rounded(value: float | None, digits: int = 6) -> float | None:
    """`value` with at most `digits` decimals; None for None and for anything that is not finite."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def device_entry(report: Report, number: int) -> dict[str, Any]:
    """Entry of the device `number` of the meter: energies, idle power, limits, marks, errors, reasons."""
    reader, window = report.readers[number], report.windows[number]
    info = reader.track.device.info
    net_j, _, net_mark = report.net(number, window.gross_j, window.seconds)
    before, after = _state(report.meter.states_before, number), _state(report.meter.states_after, number)
    return {
        "device": info.label,
        "boundary": info.boundary,
        "source": info.source,
        "index": info.index,
        "uuid": info.uuid,
        "name": info.name,
        "mig_ids": list(info.mig_ids),
        "method": window.method,
        "gross_j": rounded(window.gross_j),
        "net_j": rounded(net_j),
        "counter_j": rounded(window.counter_j),
        "integral_j": rounded(window.integral_j),
        "relative_difference": rounded(window.difference),
        "edges_aligned": window.aligned,
        "partial_j": rounded(window.partial_j),
        "idle_before_w": rounded(report.idle_before[number]),
        "idle_after_w": rounded(report.idle_after[number]),
        "mean_w": rounded(window.mean_w()),
        "max_w": rounded(max(reader.track.power, default=None)),
        "power_source": reader.track.source,
        "power_limit_w": rounded(after.power_limit_w if after.power_limit_w is not None else before.power_limit_w),
        "power_limit_before_w": rounded(before.power_limit_w),
        "default_power_limit_w": rounded(before.default_power_limit_w),
        "temperature_before_c": rounded(before.temperature_c),
        "temperature_after_c": rounded(after.temperature_c),
        "throttle": _throttle(report, reader),
        "throttled_s": held_down_s(before.throttled_s, after.throttled_s),
        "counter_tick_s": rounded(report.meter.periods_s[number] if report.meter.periods_s else None),
        "flags": _flags(report, number, before, after, net_mark),
        "errors": _errors(report, reader.track),
        "null_reasons": _reasons(report, number, window),
    }


def _flags(report: Report, number: int, before: DeviceState, after: DeviceState, net_mark: str | None) -> list[str]:
    reader = report.readers[number]
    device = reader.track.device
    flags = list(report.windows[number].flags)
    flags += [mark for mark in marks(held_down_s(before.throttled_s, after.throttled_s)) if mark not in flags]
    if device.counter_tick_s is not None:
        flags += ["counter_unsupported"] if not device.has_counter else []
        flags += ["power_unsupported"] if not device.has_power else []
    if device.power_source == "average" and (reader.track.source != "record" or reader.track.record_ended is not None):
        flags.append("power_averaged")
    if reader.track.record_ended is not None:
        flags.append("record_ended")
    limits = (before.power_limit_w, after.power_limit_w)
    if None not in limits and limits[0] != limits[1]:
        flags.append("power_limit_changed")
    if None not in (limits[0], before.default_power_limit_w) and limits[0] != before.default_power_limit_w:
        flags.append("power_limit_not_default")
    if before.mig_enabled or after.mig_enabled or device.info.mig_ids:
        flags.append("mig")
    found = report.meter.processes.get(device.info.label, [])
    owners = {process["owner"] for process in found}
    flags += ["foreign_processes"] if FOREIGN in owners else []
    flags += ["unknown_processes"] if may_be_foreign(found, report.meter.own_context) else []
    first, second = report.idle_before[number], report.idle_after[number]
    if first and second is not None and abs(second - first) > IDLE_DRIFT * first:
        flags.append("idle_drift")
    flags += [net_mark] if net_mark is not None else []
    if report.meter.idle_before is not None and not report.meter.settled and reader.power is not None:
        flags.append("idle_not_settled")
    if first is not None and device.info.boundary == GPU_BOARD and _held_before(report, found):
        flags.append("idle_with_context")
    if _unsteady(report, reader):
        flags.append("idle_unsteady")
    return flags


def _held_before(report: Report, found: list[dict[str, Any]]) -> bool:
    """Whether this process or a child of it computed on the board already when idle power was measured."""
    ours = any(process["owner"] == OURS and process["seen"] == "before" for process in found)
    return report.meter.own_context or ours


def _unsteady(report: Report, reader: Reader) -> bool:
    span = report.meter.idle_before
    if span is None:
        return False
    track = reader.track
    watts = track.power[bisect_left(track.times, span[0]) : bisect_right(track.times, span[1])]
    return len(watts) > 2 and statistics.pstdev(watts) > IDLE_UNSTEADY * abs(statistics.fmean(watts))


def _throttle(report: Report, reader: Reader) -> dict[str, float]:
    """Share of the slow samples of the window in which each reason was active."""
    seen = [bits for t, bits in reader.track.throttle_samples() if report.start <= t <= report.now]
    shares = {name: sum(bool(bits & bit) for bits in seen) / len(seen) for bit, name in THROTTLE_NAMES.items() if seen}
    return {name: round(share, 4) for name, share in shares.items() if share}


def _errors(report: Report, track: Track) -> dict[str, Any]:
    listed = [
        {"time_s": rounded(event.time_s - report.start), "code": event.code, "text": event.text}
        for event in track.errors
    ]
    return {"count": len(track.error_times), "first": listed[:ERRORS_KEPT]}


def _reasons(report: Report, number: int, window: WindowEnergy) -> dict[str, str]:
    track = report.readers[number].track
    missing = track.device.missing
    reasons: dict[str, str] = {}
    if window.gross_j is None:
        reasons["gross_j"] = window.reason or "no reading covers the window"
    if window.counter_j is None:
        reasons["counter_j"] = missing.get("counter") or (track.errors[-1].text if track.errors else "not read")
    if window.integral_j is None:
        reasons["integral_j"] = missing.get("power") or window.reason or "the samples do not cover the window"
    for when, value in (("before", report.idle_before[number]), ("after", report.idle_after[number])):
        if value is None:
            reasons[f"idle_{when}_w"] = report.idle_reason(when, track)
            report.reasons.setdefault(f"idle_{when}_w", reasons[f"idle_{when}_w"])
    _, no_net, _ = report.net(number, window.gross_j, window.seconds)
    if no_net is not None:
        reasons["net_j"] = reasons.get("gross_j") or no_net
    return reasons


def _state(states: list[DeviceState], number: int) -> DeviceState:
    return states[number] if number < len(states) else DeviceState()

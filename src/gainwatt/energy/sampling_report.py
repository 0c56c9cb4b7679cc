"""How well power was sampled, and what that cost: the `sampling` entry of the `energy` block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gainwatt.energy.device_report import rounded
from gainwatt.energy.integrate import overlapping
from gainwatt.energy.window import Reader

if TYPE_CHECKING:
    from gainwatt.energy.summary import Report


def sampling_block(report: Report) -> dict[str, Any]:
    """Rates, holes and costs over the window; of several devices the one with the fewest samples.

    `nominal_hz` is the rate that was asked for, `effective_hz` the one that was reached; the driver's own record is
    faster than asked for. `missed` counts the samples that the gaps (and, where power was polled, late rounds) cost.
    """
    meter = report.meter
    if meter.sampler is None:
        return {"nominal_hz": meter.sample_hz, "effective_hz": None, "samples": 0, "reason": report.no_meter()}
    seconds = report.now - report.start
    powered = [reader for reader in report.readers if reader.track.device.has_power]
    counts = [reader.track.count(report.start, report.now) for reader in powered]
    holes = [hole for reader in powered for hole in overlapping(reader.gaps, report.start, report.now)]
    block: dict[str, Any] = {
        "nominal_hz": meter.sample_hz,
        "effective_hz": rounded(min(counts) / seconds) if counts and seconds > 0 else None,
        "samples": min(counts, default=0),
        "missed": sum(_missed(reader, report.start, report.now) for reader in powered),
        "gaps": len(holes),
        "longest_gap_s": rounded(max((end - begin for begin, end in holes), default=0.0)),
        "round_s": rounded(meter.sampler.period_s),
        "counter_period_s": rounded(meter.sampler.counter_period_s),
        "sampler_cpu_s": rounded(meter.sampler.cpu_s),
        "sampler_cpu_share": _share(report),
    }
    if not powered:
        block["reason"] = "no device here has a reading of power: energy counters are read instead"
    return block


def device_sampling(report: Report, number: int) -> dict[str, Any]:
    """The same of one device: where power came from, samples, rate reached, samples missed, gaps."""
    reader = report.readers[number]
    seconds, track = report.now - report.start, reader.track
    if not track.device.has_power:
        return {"source": None, "samples": 0, "effective_hz": None, "reason": track.device.missing.get("power")}
    count = track.count(report.start, report.now)
    block: dict[str, Any] = {
        "source": track.source,
        "samples": count,
        "effective_hz": rounded(count / seconds) if seconds > 0 else None,
        "missed": _missed(reader, report.start, report.now),
        "gaps": len(overlapping(reader.gaps, report.start, report.now)),
    }
    if track.record_ended is not None:
        block["record_ended"] = {
            "time_s": rounded(track.record_ended.time_s - report.start),
            "text": track.record_ended.text,
        }
    elif track.source != "record":
        block["no_record"] = track.device.missing.get("record", "this source keeps no record of power")
    return block


def _missed(reader: Reader, start_s: float, end_s: float) -> int:
    track = reader.track
    if track.source != "record":
        return max(0, math.floor((end_s - start_s) * track.hz) - track.count(start_s, end_s))
    spacing_s = track.spacing_s
    return sum(round((end - begin) / spacing_s) - 1 for begin, end in overlapping(reader.gaps, start_s, end_s))


def _share(report: Report) -> float | None:
    sampler = report.meter.sampler
    if sampler is None or len(sampler.polls) < 2:
        return None
    running = sampler.polls[-1] - sampler.polls[0]
    return rounded(sampler.cpu_s / running) if running > 0 else None

"""What a user wants to know about the meters of a new machine; the work behind scripts/check_energy.py."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.energy.clock import Runtime
from gainwatt.energy.device import Device, DeviceError
from gainwatt.energy.load import Load
from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.sources import Sources

COST_CALLS = 200
COST_SECONDS = 0.5
SAMPLER_SHARE_LIMIT = 0.001
IDLE, BUSY = "idle", "busy"
RECORD = "the driver's record of power"


@dataclass(frozen=True)
class CallCost:
    """Cost and update period of one reading of one device. Microseconds, seconds; None where it failed."""

    device: str
    reading: str
    calls: int
    median_us: float | None
    p99_us: float | None
    period_s: float | None
    reason: str | None


def call_costs(device: Device, runtime: Runtime, seconds: float = COST_SECONDS) -> list[CallCost]:
    """Time each reading of `device` for up to `seconds`, and see how often its value changes."""
    readings: tuple[tuple[str, Callable[[], Any], bool], ...] = (
        ("power", device.power_w, device.has_power),
        (RECORD, device.read_record, device.record is not None),
        ("energy counter", device.counter_j, device.has_counter),
        ("temperature, clocks, throttle, memory", device.slow, device.has_power),
        ("limits and process list", device.state, device.has_power),
    )
    return [
        _cost(device, name, read, runtime, seconds)
        if offered
        else CallCost(device.info.label, name, 0, None, None, None, _missing(device, name))
        for name, read, offered in readings
        if offered or name in ("power", "energy counter") or (name == RECORD and "record" in device.missing)
    ]


def _missing(device: Device, reading: str) -> str:
    key = {"power": "power", RECORD: "record"}.get(reading, "counter")
    return device.missing.get(key, "the device does not offer it")


def _cost(device: Device, name: str, read: Callable[[], Any], runtime: Runtime, seconds: float) -> CallCost:
    costs: list[float] = []
    changes: list[float] = []
    last: Any = None
    end = runtime.now() + seconds
    try:
        while not costs or (runtime.now() < end and (len(costs) < COST_CALLS or name in ("power", "energy counter"))):
            before = runtime.now()
            value = read()
            after = runtime.now()
            costs.append(after - before)
            if last is not None and value != last:
                changes.append(after)
            last = value
            runtime.sleep(0.0005)
    except DeviceError as error:
        return CallCost(device.info.label, name, len(costs), None, None, None, error.text)
    intervals = [late - early for early, late in itertools.pairwise(changes)]
    ordered = sorted(costs)
    period = statistics.median(intervals) if len(intervals) > 1 and isinstance(last, float) else None
    if name == RECORD and device.record is not None:
        period = device.record[0]
    return CallCost(
        device=device.info.label,
        reading=name,
        calls=len(costs),
        median_us=round(1e6 * statistics.median(costs), 2),
        p99_us=round(1e6 * ordered[int(0.99 * (len(ordered) - 1))], 2),
        period_s=None if period is None else round(period, 4),
        reason=None,
    )


def all_costs(sources: Sources, runtime: Runtime, seconds: float = COST_SECONDS) -> list[dict[str, Any]]:
    """`call_costs` of every device, as JSON values."""
    return [asdict(cost) for device in sources.devices for cost in call_costs(device, runtime, seconds)]


def run_windows(
    meter: EnergyMeter, idle_s: float, busy_s: float, prepare: Callable[[], Load | None]
) -> dict[str, float | None]:
    """One idle and one busy window inside one meter, which is then stopped; the sampler's share of a core in each.

    `prepare` makes the load once the board was seen at rest: making it takes a CUDA context, and a board that is held
    draws more. None: no busy window. A share is null where no whole round of the sampler lies in the window.
    """
    shares: dict[str, float | None] = {}
    meter.start()
    try:
        with meter.phase(IDLE, short_ok=False):
            before = _usage(meter)
            meter.runtime.sleep(idle_s)
            shares[IDLE] = _share(before, _usage(meter))
        with meter.phase("prepare"):
            load = prepare()
        if load is not None:
            with meter.phase("warm-up"):
                load(1.0)
            with meter.phase(BUSY, short_ok=False):
                before = _usage(meter)
                load(busy_s)
                shares[BUSY] = _share(before, _usage(meter))
    finally:
        meter.stop()
    return shares


def _usage(meter: EnergyMeter) -> tuple[float, float]:
    return meter.sampler.usage() if meter.sampler is not None else (0.0, 0.0)


def _share(before: tuple[float, float], after: tuple[float, float]) -> float | None:
    seconds = after[0] - before[0]
    return round((after[1] - before[1]) / seconds, 6) if seconds > 0 else None


def windows_table(meter: EnergyMeter) -> list[dict[str, Any]]:
    """Counter against integral of the idle and the busy window, one row per device."""
    rows = []
    for phase in meter.phases():
        if phase["name"] not in (IDLE, BUSY):
            continue
        for device in phase["energy"]["devices"]:
            joules = device["gross_j"]
            rows.append(
                {
                    "window": phase["name"],
                    "device": device["device"],
                    "seconds": phase["seconds"],
                    "counter_j": device.get("counter_j"),
                    "integral_j": device.get("integral_j", joules if device["method"] == "integral" else None),
                    "relative_difference": device.get("relative_difference"),
                    "method": device["method"],
                    "mean_w": None if joules is None else round(joules / phase["seconds"], 3),
                    "flags": device["flags"],
                }
            )
    return rows

"""Can the joules be true: between idle and the power limit, equal to power times time, whole, and without marks?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gainwatt.energy.flags import FLAG_TEXTS
from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number, off
from gainwatt.validation.findings import ERROR, INFO, WARNING, Severity

_AGAIN = "run the rule that makes this record again"
_SLACK_S = 0.2
"""Two ticks of the counter, which steps every 100 ms: that much power may count into a neighbouring window."""
_ROUNDING_J = 0.01
# Marks that leave the joules as good as they can be: the reader should know, and need not act.
_HARMLESS = {"unaligned", "coarse", "gap", "counter_unsupported", "power_averaged", "power_capped"}


def _devices(record: Record) -> list[dict[str, Any]]:
    return record["energy"].get("devices") or []


@each_record(
    ERROR, source="the board's power limit; validation.energy_tolerance and two counter ticks", any_status=True
)
def below_power_limit(study: Collected, record: Record) -> Iterator[Problem]:
    """No device used more energy than its power limit allows in that time."""
    share, energy = 1 + study.study.validation.energy_tolerance, record["energy"]
    limits = []
    for device in _devices(record):
        given = [number(device.get(name)) for name in ("power_limit_w", "power_limit_before_w")]
        known = [limit for limit in given if limit is not None]
        limits.append(max(known) if known else None)
        name = str(device.get("device"))
        yield from _over(device.get("gross_j"), limits[-1], energy.get("window_s"), share, name)
    boards = [limit for limit in limits if limit is not None]
    if not boards or len(boards) < len(limits):
        return
    for total in energy.get("phase_totals") or ():
        slack = 1 + (number(total.get("count")) or 1) * _SLACK_S / max(number(total["seconds"]) or 0, _SLACK_S)
        yield from _over(total.get("gross_j"), sum(boards), total["seconds"], share * slack, f"phase {total['path']}")


def _over(joules: Any, limit_w: float | None, seconds: Any, share: float, what: str) -> Iterator[Problem]:
    gross_j, window_s = number(joules), number(seconds)
    if gross_j is None or limit_w is None or window_s is None:
        return
    if gross_j > limit_w * (window_s + _SLACK_S) * share:
        most = limit_w * window_s
        said = f"{what}: {gross_j:.1f} J in {window_s:.2f} s is more than the power limit of {limit_w:g} W allows"
        yield Problem(f"{said} ({most:.1f} J)", f"the meter or the clock was wrong: {_AGAIN}")


@each_record(WARNING, source="the idle power that the meter measured; validation.energy_tolerance", any_status=True)
def above_idle(study: Collected, record: Record) -> Iterator[Problem]:
    """No device whose net joules are given used less than it uses at rest; gross joules are above zero."""
    share, window_s = 1 - study.study.validation.energy_tolerance, number(record["energy"].get("window_s"))
    for device in _devices(record):
        gross_j, name = number(device.get("gross_j")), device.get("device")
        idle_w = number(device.get("idle_before_w"))
        if gross_j is None or window_s is None:
            continue
        if gross_j <= 0 and window_s > 1:
            what = f"{name}: {gross_j:g} J in {window_s:.1f} s: a device that is on draws power"
            yield Problem(what, f"the meter stood still: {_AGAIN}", ERROR)
        elif idle_w is not None and number(device.get("net_j")) is not None and gross_j < share * idle_w * window_s:
            what = (
                f"{name}: {gross_j / window_s:.1f} W on average are below the idle power of {idle_w:.1f} W measured "
                "before: the net joules are too low"
            )
            yield Problem(what, "measure again with a longer energy.idle_s, on a machine at rest")


@each_record(
    ERROR, source="energy = mean power x time; sums over devices; validation.consistency_tolerance", any_status=True
)
def energy_adds_up(study: Collected, record: Record) -> Iterator[Problem]:
    """Joules equal mean power times seconds, devices and boundaries add up to the total, and net is not above gross."""
    energy, tolerance = record["energy"], study.study.validation.consistency_tolerance
    window_s = number(energy.get("window_s"))
    parts = [("the record", energy)] + [(str(device.get("device")), device) for device in _devices(record)]
    for name, block in parts:
        gross_j, net_j, mean_w = (number(block.get(key)) for key in ("gross_j", "net_j", "mean_w"))
        if None not in (gross_j, mean_w, window_s):
            yield from _differ(gross_j, mean_w * window_s, tolerance, f"{name}: mean power x time")  # type: ignore[operator]
        if gross_j is not None and net_j is not None and net_j > gross_j * (1 + tolerance) + _ROUNDING_J:
            yield Problem(f"{name}: net joules ({net_j:.1f}) are above gross ({gross_j:.1f})", _AGAIN)
    for name, blocks in (
        ("devices", _devices(record)),
        ("boundaries", list((energy.get("by_boundary") or {}).values())),
    ):
        given = [number(block.get("gross_j")) for block in blocks]
        if given and None not in given:
            total = sum(value for value in given if value is not None)
            yield from _differ(number(energy.get("gross_j")), total, tolerance, f"the sum over {name}")


def _differ(joules: float | None, other_j: float, tolerance: float, name: str) -> Iterator[Problem]:
    if joules is not None and abs(joules - other_j) > _ROUNDING_J and off(joules, other_j) > tolerance:
        yield Problem(f"{name} gives {other_j:.1f} J, the record says {joules:.1f} J", _AGAIN)


@each_record(ERROR, source="the phases lie inside the window; validation.energy_tolerance", any_status=True)
def phases_fit(study: Collected, record: Record) -> Iterator[Problem]:
    """The outer phases together take no more seconds and joules than the whole job."""
    energy, tolerance = record["energy"], study.study.validation.energy_tolerance
    outer = [total for total in energy.get("phase_totals") or () if total["depth"] == 0]
    # Boards step about every 100 ms, so that each phase may hold up to a tick more than its share.
    for key, whole, slack in (("seconds", "window_s", 0.01), ("gross_j", "gross_j", _tick_j(record) * len(outer))):
        values, limit = [number(total.get(key)) for total in outer], number(energy.get(whole))
        if limit is None or not values:
            continue
        found = sum(value for value in values if value is not None)
        if found > limit * (1 + tolerance) + slack:
            yield Problem(f"the phases add up to {key} {found:.2f}, the whole job has {limit:.2f}", _AGAIN)


def _tick_j(record: Record) -> float:
    return _SLACK_S * sum(number(device.get("max_w")) or 0.0 for device in _devices(record))


@each_record(WARNING, source="validation.counter_tolerance", any_status=True)
def counter_and_integral(study: Collected, record: Record) -> Iterator[Problem]:
    """Energy counter and integrated power agree where both were read."""
    for device in _devices(record):
        counter_j, integral_j = number(device.get("counter_j")), number(device.get("integral_j"))
        if counter_j is None or integral_j is None or "short" in (device.get("flags") or ()):
            continue
        difference = off(counter_j, integral_j)
        if difference > study.study.validation.counter_tolerance:
            what = f"{device.get('device')}: counter {counter_j:.1f} J and integral {integral_j:.1f} J"
            yield Problem(f"{what} are {difference:.1%} apart", "publish the joules of one method only, and say which")


@each_record(WARNING, source="gainwatt.energy.flags", any_status=True)
def energy_marks(study: Collected, record: Record) -> Iterator[Problem]:
    """The meter set no mark on the joules: short window, foreign programs, throttling, a lost or stuck meter."""
    by_severity: dict[Severity, set[str]] = {WARNING: set(), INFO: set()}
    for entry in record["energy"].get("flags") or ():
        mark = str(entry.get("flag"))
        by_severity[INFO if mark in _HARMLESS else WARNING].add(mark)
    for severity, marks in by_severity.items():
        if marks:
            what = "; ".join(f"{mark}: {FLAG_TEXTS.get(mark, 'a mark of another version')}" for mark in sorted(marks))
            hint = "scripts/check_energy.py says what to do about each" if severity == WARNING else ""
            yield Problem(what, hint, severity)

"""Energies of phases: single occurrences for people, totals by path for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gainwatt.energy.device_report import rounded
from gainwatt.energy.edges import Edge
from gainwatt.energy.phases import PathLog
from gainwatt.energy.window import WindowEnergy

if TYPE_CHECKING:
    from gainwatt.energy.summary import Report

LISTED_PER_PATH = 200

Net = tuple[float | None, str | None, str | None]
"""Net joules, why there are none, and the mark for it; see Report.net."""


def phase_entries(report: Report, limit: int | None = LISTED_PER_PATH) -> list[dict[str, Any]]:
    """The first `limit` occurrences of every path (None: all of them), ordered by their start."""
    entries = [
        _entry(report, log, number)
        for log in report.meter.log.paths.values()
        for number in range(len(log.starts) if limit is None else min(len(log.starts), limit))
    ]
    return sorted(entries, key=lambda entry: (entry["start_s"], entry["depth"]))


def newest_entry(report: Report, path: str) -> dict[str, Any]:
    """The last occurrence of a path, also while the meter runs. Raises KeyError where there is none."""
    log = report.meter.log.paths[path]
    return _entry(report, log, len(log.starts) - 1)


def phase_totals(report: Report) -> list[dict[str, Any]]:
    """One entry per path over all its occurrences, also those that are not listed."""
    return [_total(report, log) for log in report.meter.log.paths.values() if len(log.starts)]


def _entry(report: Report, log: PathLog, number: int) -> dict[str, Any]:
    start, end = log.starts[number], log.ends[number]
    entry: dict[str, Any] = {
        "name": log.name,
        "path": log.path,
        "depth": log.depth,
        "index": number,
        "start_s": rounded(start - report.start),
        "seconds": rounded(end - start),
        "energy": _energy(report, log, number),
    }
    if number in log.errors:
        entry["error"] = log.errors[number]
    return entry


def _energy(report: Report, log: PathLog, number: int) -> dict[str, Any]:
    windows = _measure(report, log, number)
    seconds = log.ends[number] - log.starts[number]
    nets = [report.net(n, window.gross_j, seconds) for n, window in enumerate(windows)]
    gross = [window.gross_j for window in windows]
    methods = {window.method for window in windows if window.method}
    energy: dict[str, Any] = {
        "gross_j": _sum(gross),
        "net_j": _sum([joules for joules, _, _ in nets]),
        "method": _one(methods),
        "flags": sorted({flag for window in windows for flag in window.flags} | _marks(nets)),
        "devices": [_device(report, n, window, nets[n]) for n, window in enumerate(windows)],
    }
    if energy["gross_j"] is None:
        energy["reason"] = next((w.reason for w in windows if w.gross_j is None), None) or report.no_meter()
    elif energy["net_j"] is None:
        energy["net_reason"] = _no_net(nets)
    return energy


def _one(methods: set[str]) -> str | None:
    return "+".join(sorted(methods)) or None


def _marks(nets: Sequence[Net]) -> set[str]:
    return {mark for _, _, mark in nets if mark is not None}


def _no_net(nets: Sequence[Net]) -> str:
    return next((reason for _, reason, _ in nets if reason is not None), "no device")


def _device(report: Report, number: int, window: WindowEnergy, net: Net) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "device": report.readers[number].track.device.info.label,
        "gross_j": rounded(window.gross_j),
        "net_j": rounded(net[0]),
        "method": window.method,
        "flags": window.flags + ([net[2]] if net[2] is not None else []),
    }
    if window.gross_j is None:
        entry["reason"] = window.reason
    elif net[1] is not None:
        entry["net_reason"] = net[1]
    if window.counter_j is not None:
        entry["counter_j"] = rounded(window.counter_j)
        entry["integral_j"] = rounded(window.integral_j)
        entry["relative_difference"] = rounded(window.difference)
    if window.partial_j is not None:
        entry["partial_j"] = rounded(window.partial_j)
    return entry


def _measure(report: Report, log: PathLog, number: int) -> list[WindowEnergy]:
    opening, closing = log.opening.get(number), log.closing.get(number)
    windows = []
    for position, reader in enumerate(report.readers):
        edges: tuple[Edge, Edge] | None = None
        if opening and closing:
            edges = (opening[position], closing[position])
        short_ok = number not in log.measured
        windows.append(reader.measure(log.starts[number], log.ends[number], edges, short_ok))
    return windows


def _total(report: Report, log: PathLog) -> dict[str, Any]:
    count = len(log.starts)
    durations = [end - start for start, end in zip(log.starts, log.ends, strict=True)]
    gross: list[float | None] = []
    by_device: list[list[float | None]] = [[] for _ in report.readers]
    flags: set[str] = set()
    methods: set[str] = set()
    for number in range(count):
        windows = _measure(report, log, number)
        energies = [window.gross_j for window in windows]
        flags |= {flag for window in windows for flag in window.flags}
        methods |= {window.method for window in windows if window.method}
        gross.append(_sum(energies))
        for mine, energy in zip(by_device, energies, strict=True):
            mine.append(energy)
    # Net is formed once over all occurrences: single ones that lie below idle by their noise cancel.
    nets = [report.net(n, _sum(energies), sum(durations)) for n, energies in enumerate(by_device)]
    flags |= _marks(nets)
    total: dict[str, Any] = {
        "name": log.name,
        "path": log.path,
        "depth": log.depth,
        "count": count,
        "listed": min(count, LISTED_PER_PATH),
        "not_listed": max(0, count - LISTED_PER_PATH),
        "seconds": rounded(sum(durations)),
        "shortest_s": rounded(min(durations)),
        "longest_s": rounded(max(durations)),
        "gross_j": _sum(gross),
        "net_j": _sum([joules for joules, _, _ in nets]),
        "method": _one(methods),
        "flags": sorted(flags),
    }
    if total["gross_j"] is None:
        some = f"{gross.count(None)} of {count} occurrences have no energy; see their own reasons"
        total["reason"] = some if report.readers else report.no_meter()
    elif total["net_j"] is None:
        total["net_reason"] = _no_net(nets)
    return total


def _sum(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return rounded(sum(present)) if present and len(present) == len(values) else None

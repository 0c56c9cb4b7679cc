"""One boundary for every arm: the sum of CPU package, DRAM and GPU board, or null with the reason.

A figure for the CPU's arm that leaves out the GPU board, or the other way round, would compare unlike things: the other
device idles, and its idle power is part of what the arm costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.energy.device import CPU_PACKAGE, DRAM, GPU_BOARD
from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.phase_report import newest_entry

BOUNDARIES = (CPU_PACKAGE, DRAM, GPU_BOARD)
_GPU_SIGNS = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"), Path("/dev/kfd"))


@dataclass(frozen=True)
class Joules:
    """Gross and net joules, each null with its reason."""

    gross_j: float | None
    net_j: float | None
    reason: str | None = None
    net_reason: str | None = None


def absent_boundaries(signs: Sequence[Path] = _GPU_SIGNS) -> dict[str, str]:
    """Boundaries that this machine does not have, with the reason: nothing of them is missing in a sum."""
    if any(sign.exists() for sign in signs):
        return {}
    return {GPU_BOARD: "this machine has no GPU driver, and so no GPU that takes part"}


def measured(meter: EnergyMeter, path: str) -> tuple[dict[str, Any], dict[str, Joules]]:
    """The newest occurrence of a phase, and its joules by boundary. A boundary without device is not in it."""
    entry = newest_entry(meter.report(), path)
    parts: dict[str, list[dict[str, Any]]] = {}
    for track, device in zip(meter.tracks, entry["energy"]["devices"], strict=True):
        parts.setdefault(track.device.info.boundary, []).append(device)
    return entry, {name: _together(devices) for name, devices in parts.items()}


def _together(devices: Sequence[Mapping[str, Any]]) -> Joules:
    gross, net = [[device[key] for device in devices] for key in ("gross_j", "net_j")]
    reason = next((device.get("reason") for device in devices if device["gross_j"] is None), None)
    net_reason = next((device.get("net_reason") or reason for device in devices if device["net_j"] is None), None)
    return Joules(
        None if None in gross else sum(gross), None if None in net else sum(net),
        "the meter gave no reading" if None in gross and reason is None else reason, net_reason,
    )  # fmt: skip


def system(
    parts: Mapping[str, Joules], wanted: Sequence[str], absent: Mapping[str, str], reasons: Mapping[str, str]
) -> Joules:
    """The sum over the boundaries that the study declares; `reasons` says why a boundary has no meter.

    A boundary that the machine does not have adds nothing. One that it has and cannot read leaves the sum null.
    """
    counted = [name for name in wanted if name in parts or name not in absent]
    lacking = {
        name: parts[name].reason if name in parts else reasons.get(name, "no meter")
        for name in counted
        if name not in parts or parts[name].gross_j is None
    }
    if not counted:
        return Joules(None, None, "the machine has no device of the declared boundary", "gross_j is null")
    if lacking:
        said = "; ".join(f"{name}: {why}" for name, why in lacking.items())
        return Joules(None, None, f"the boundary {'+'.join(wanted)} is incomplete ({said})", "gross_j is null")
    nets = [parts[name].net_j for name in counted]
    why = next((parts[name].net_reason for name in counted if parts[name].net_j is None), None)
    return Joules(
        sum(parts[name].gross_j or 0.0 for name in counted),
        None if None in nets else sum(net for net in nets if net is not None), None, why,
    )  # fmt: skip

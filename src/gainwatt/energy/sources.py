"""Opens every meter that this machine and this process have: NVML, else Zeus, and RAPL beside either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gainwatt.energy.device import BOUNDARIES, CPU_PACKAGE, DRAM, GPU_BOARD, Device, NullDevice
from gainwatt.energy.nvml import NvmlSession, open_nvml
from gainwatt.energy.rapl import POWERCAP_ROOT, open_rapl
from gainwatt.energy.zeus_adapter import open_zeus


@dataclass
class Sources:
    """Open devices, and a null device with its reason for each boundary that has none."""

    devices: list[Device] = field(default_factory=list)
    nulls: list[NullDevice] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    driver_version: str | None = None
    closers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def boundary(self) -> list[str]:
        """Boundaries that are measured, in a fixed order."""
        present = {device.info.boundary for device in self.devices}
        return [name for name in BOUNDARIES if name in present]

    @property
    def reasons(self) -> dict[str, str]:
        """Why a boundary is not measured, by boundary."""
        return {null.info.boundary: null.reason for null in self.nulls}

    def close(self) -> None:
        """Close all devices and libraries; never raises."""
        for device in self.devices:
            device.close()
        for closer in self.closers:
            closer()
        self.closers = []


def open_sources(environ: Mapping[str, str], rapl: bool = True, rapl_root: Path = POWERCAP_ROOT) -> Sources:
    """Open what there is. Never raises: a meter that is missing is in `nulls` with its reason."""
    sources = Sources()
    session = open_nvml(environ)
    sources.closers.append(session.close)
    sources.devices += session.devices
    sources.driver_version = session.driver_version
    reasons: dict[str, str] = {}
    if session.devices:
        _note_selection(sources, session)
    else:
        reasons[GPU_BOARD] = session.reason or "no GPU was found"
        if session.hint:
            sources.hints.append(session.hint)
        if not session.hidden:
            _add_zeus(sources, reasons)
    if rapl:
        found, why = open_rapl(rapl_root)
        present = sources.boundary
        sources.devices += [device for device in found if device.info.boundary not in present]
        reasons.update({name: text for name, text in why.items() if name not in present})
    else:
        for name in (CPU_PACKAGE, DRAM):
            reasons.setdefault(name, "RAPL was switched off by the caller")
    sources.nulls = [
        NullDevice(name, reasons[name]) for name in BOUNDARIES if name in reasons and name not in sources.boundary
    ]
    return sources


def _note_selection(sources: Sources, session: NvmlSession) -> None:
    if session.reason:
        sources.flags.append("selection_cut")
        sources.notes.append(session.reason)
    if session.selection.ambiguous_order:
        sources.flags.append("device_order")


def _add_zeus(sources: Sources, reasons: dict[str, str]) -> None:
    found, why = open_zeus()
    sources.devices += found
    if why:
        reasons[GPU_BOARD] += f"; {why}"

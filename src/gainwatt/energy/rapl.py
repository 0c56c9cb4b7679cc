"""CPU package and DRAM energy from RAPL, through the Linux powercap tree.

Layout and units are those of the kernel's "Power Capping Framework" document: `energy_uj` counts microjoules
and starts again at zero when it has reached `max_energy_range_uj`. The wrap is undone here, in the reader, from
two consecutive raw values, so no other part of the program ever sees it; a package at 300 W wraps after about
15 minutes, and the sampler reads twice a second.

Since Linux 5.10 the file is readable by root only (CVE-2020-8694). To let a group read it:
`sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj` (until the next boot) or a udev rule.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from gainwatt.energy.device import CPU_PACKAGE, DRAM, Device, DeviceError, DeviceInfo

POWERCAP_ROOT = Path("/sys/class/powercap")
PERMISSION_HINT = (
    "sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj /sys/class/powercap/intel-rapl:*:*/energy_uj"
)


class Unwrapper:
    """Turns raw counts that start again at zero into a count that only grows.

    `range_uj` is the value at which the raw counter wraps. Correct as long as it is fed at least once per wrap.
    """

    def __init__(self, range_uj: int) -> None:
        self.range_uj = range_uj
        self._last: int | None = None
        self._total = 0

    def feed(self, raw_uj: int) -> int:
        """Microjoules since the first call."""
        if self._last is not None:
            step = raw_uj - self._last
            self._total += step if step >= 0 else step + self.range_uj
        self._last = raw_uj
        return self._total


class RaplDevice(Device):
    """One RAPL zone: a CPU package or the DRAM behind it.

    The counter moves about every millisecond, so edges need no alignment. The sampler and the caller both read
    it, and two values that arrive in the wrong order would look like a wrap: a lock keeps reading and
    unwrapping together.
    """

    def __init__(self, zone: Path, info: DeviceInfo) -> None:
        super().__init__(info, counter_tick_s=None)
        self.missing["power"] = "RAPL counts energy; it has no reading of power"
        self._lock = threading.Lock()
        self._file = os.open(zone / "energy_uj", os.O_RDONLY)
        try:
            self._unwrap = Unwrapper(_range_uj(zone))
            self._path = zone / "energy_uj"
            self.counter_j()
        except (OSError, ValueError, DeviceError):
            os.close(self._file)
            raise
        self.has_counter = True

    def power_w(self) -> float:
        """Raises DeviceError: RAPL has no reading of power."""
        raise DeviceError(self.missing["power"])

    def counter_j(self) -> float:
        """Joules since the device was opened, wraps undone."""
        with self._lock:
            try:
                raw = int(os.pread(self._file, 32, 0))
            except (OSError, ValueError) as error:
                raise DeviceError(f"{self._path} could not be read: {error}", hint=PERMISSION_HINT) from error
            return self._unwrap.feed(raw) / 1e6

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_rapl(root: Path = POWERCAP_ROOT) -> tuple[list[RaplDevice], dict[str, str]]:
    """All readable packages and DRAM zones below `root`, and the reason for each boundary that is missing.

    Zones of one package that appear twice (`intel-rapl-mmio`) and the platform zone `psys`, which contains the
    packages, are left out so that nothing is counted twice. Never raises.
    """
    found: list[RaplDevice] = []
    reasons: dict[str, str] = {}
    zones = _zones(root)
    for boundary, prefix in ((CPU_PACKAGE, "package"), (DRAM, "dram")):
        matching = [(zone, name) for zone, name in zones if name.startswith(prefix)]
        opened, reason = _open_all(matching, boundary)
        found += opened
        if not matching:
            reasons[boundary] = f"no RAPL zone for {boundary} under {root}"
        elif reason:
            reasons[boundary] = reason
    return found, reasons


def _range_uj(zone: Path) -> int:
    found = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
    if found <= 0:
        raise ValueError(f"max_energy_range_uj is {found}, so a wrap could not be undone")
    return found


def _open_all(zones: Sequence[tuple[Path, str]], boundary: str) -> tuple[list[RaplDevice], str | None]:
    opened: list[RaplDevice] = []
    for number, (zone, name) in enumerate(zones):
        label = f"{'cpu' if boundary == CPU_PACKAGE else 'dram'}:{number}"
        info = DeviceInfo(label=label, boundary=boundary, source="rapl", name=name, index=number, uuid=zone.name)
        try:
            opened.append(RaplDevice(zone, info))
        except PermissionError:
            _close(opened)
            return [], f"{zone}/energy_uj may be read by root only; to allow it: {PERMISSION_HINT}"
        except (OSError, ValueError, DeviceError) as error:
            _close(opened)
            return [], f"{zone}/energy_uj could not be read: {error}"
    return opened, None


def _close(devices: Sequence[RaplDevice]) -> None:
    # Half of the packages would be a boundary that nobody can name, so a zone that fails takes its sisters along.
    for device in devices:
        device.close()


def _zones(root: Path) -> list[tuple[Path, str]]:
    zones = []
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            name = (zone / "name").read_text(encoding="ascii").strip()
            zones.append((zone, name))
    except (OSError, ValueError):
        return zones
    return zones

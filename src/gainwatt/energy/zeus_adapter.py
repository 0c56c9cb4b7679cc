"""AMD, Apple and Jetson devices through Zeus (package `zeus`), where it is installed and NVML found no GPU.

Zeus offers cumulative energy in millijoules for all of them (`get_gpus()`, `get_soc()`; names of Zeus 0.16),
and power for AMD boards. On a system on chip the GPU is one block of the chip; there is no board to measure,
and the record names the block.
"""

from __future__ import annotations

import importlib
from typing import Any

from gainwatt.energy.device import CPU_PACKAGE, DRAM, GPU_BOARD, Device, DeviceError, DeviceInfo, SlowReading

_SOC_FIELDS = (
    (GPU_BOARD, "gpu", ("gpu_mj", "gpu_energy_mj")),
    (CPU_PACKAGE, "cpu", ("cpu_total_mj", "cpu_energy_mj")),
    (DRAM, "dram", ("dram_mj",)),
)


class ZeusGpu(Device):
    """One GPU of `zeus.device.get_gpus()`."""

    def __init__(self, gpus: Any, index: int) -> None:
        name = _call("get_name", lambda: str(gpus.get_name(index)))
        super().__init__(DeviceInfo(f"gpu:{index}", GPU_BOARD, "zeus", name, index=index))
        self._gpus = gpus
        for what, read in (("power", self.power_w), ("counter", self.counter_j)):
            try:
                read()
                setattr(self, f"has_{what}", True)
            except DeviceError as error:
                self.missing[what] = error.text
        self.power_source = "instant" if self.has_power else None

    def power_w(self) -> float:
        """Power in watts."""
        index = self.info.index
        return _call("get_instant_power_usage", lambda: float(self._gpus.get_instant_power_usage(index)) / 1e3)

    def counter_j(self) -> float:
        """Energy in joules since the driver was loaded."""
        index = self.info.index
        return _call(
            "get_total_energy_consumption", lambda: float(self._gpus.get_total_energy_consumption(index)) / 1e3
        )

    def slow(self) -> SlowReading:
        """Temperature only."""
        try:
            return SlowReading(temperature_c=float(self._gpus.get_gpu_temperature(self.info.index)))
        except Exception:  # noqa: BLE001 - a reading that fails is None
            return SlowReading()


class ZeusSocBlock(Device):
    """One block (GPU, CPU, DRAM) of a system on chip."""

    def __init__(self, soc: Any, boundary: str, short: str, fields: tuple[str, ...]) -> None:
        super().__init__(DeviceInfo(f"{short}:0", boundary, "zeus", f"{type(soc).__name__} {short}", index=0))
        self._soc = soc
        self._fields = fields
        self.missing["power"] = "Zeus counts the energy of this chip; it has no reading of power"
        self.counter_j()
        self.has_counter = True

    def power_w(self) -> float:
        """Raises DeviceError: Zeus has no reading of power for a system on chip."""
        raise DeviceError(self.missing["power"])

    def counter_j(self) -> float:
        """Energy of the block in joules since an arbitrary start."""
        reading = _call("get_total_energy_consumption", self._soc.get_total_energy_consumption)
        for name in self._fields:
            value = getattr(reading, name, None)
            if value is not None:
                return float(value) / 1e3
        raise DeviceError(f"Zeus has none of {', '.join(self._fields)} on this chip")


def open_zeus() -> tuple[list[Device], str | None]:
    """Devices that Zeus offers, and the reason when there is none. Never raises."""
    try:
        module = importlib.import_module("zeus.device")
        soc_module = importlib.import_module("zeus.device.soc")
    except Exception as error:  # noqa: BLE001 - not installed, or broken
        return [], f"Zeus (AMD, Apple, Jetson) cannot be used: {error}"
    reasons: list[str] = []
    found: list[Device] = []
    try:
        gpus = module.get_gpus()
        found += [ZeusGpu(gpus, index) for index in range(len(gpus))]
    except Exception as error:  # noqa: BLE001 - Zeus raises its own classes, which need not exist here
        reasons.append(f"Zeus finds no GPU: {error}")
    if found:
        return found, None
    try:
        soc = soc_module.get_soc()
        found += _blocks(soc)
    except Exception as error:  # noqa: BLE001 - see above
        reasons.append(f"Zeus finds no system on chip: {error}")
    return found, None if found else "; ".join(reasons) or "Zeus finds no device"


def _blocks(soc: Any) -> list[Device]:
    found: list[Device] = []
    for boundary, short, fields in _SOC_FIELDS:
        try:
            found.append(ZeusSocBlock(soc, boundary, short, fields))
        except DeviceError:
            continue
    return found


def _call(name: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:
        raise DeviceError(f"zeus {name} failed: {type(error).__name__}: {error}") from error

"""The one interface behind which every meter sits, and the device that stands for "no meter"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.integrate import DEFAULT_TICK_S

GPU_BOARD = "gpu_board"
CPU_PACKAGE = "cpu_package"
DRAM = "dram"
BOUNDARIES = (GPU_BOARD, CPU_PACKAGE, DRAM)


class DeviceError(Exception):
    """A reading failed. `code`: the NVML return code where there is one; `fatal`: asking again is useless."""

    def __init__(self, text: str, *, code: int | None = None, hint: str = "", fatal: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.hint = hint
        self.fatal = fatal


@dataclass(frozen=True)
class SlowReading:
    """Readings that change slowly, taken about every two seconds. None where the device does not offer one."""

    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: int | None = None
    memory_used_mib: float | None = None


@dataclass(frozen=True)
class DeviceState:
    """Readings that are too slow or too rare for a window; taken before and after it."""

    temperature_c: float | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    persistence: bool | None = None
    mig_enabled: bool | None = None
    processes: tuple[dict[str, Any], ...] | None = None
    throttled_s: dict[str, float] | None = None
    """Seconds in which the clocks were held down so far, by reason, where the driver counts them."""


@dataclass(frozen=True)
class DeviceInfo:
    """Which device this is. `label` is unique inside a record, e.g. `gpu:0`, `cpu:0`, `dram:1`."""

    label: str
    boundary: str
    source: str
    name: str
    index: int | None = None
    uuid: str | None = None
    mig_ids: tuple[str, ...] = ()


@dataclass
class Device(ABC):
    """A meter of one device.

    The constructor of a subclass probes by calling: `has_power` and `has_counter` say what really answered, and
    `missing` holds the reason for whatever did not.
    """

    info: DeviceInfo
    has_power: bool = False
    has_counter: bool = False
    counter_tick_s: float | None = DEFAULT_TICK_S
    """Expected update period of the counter; None where it is so short that edges need no alignment."""
    power_source: str | None = None
    """`record`: the driver's own samples; `instant` or `average`: what a poll returns; None without power."""
    record: tuple[float, float] | None = None
    """(spacing, length) in seconds of the device's own record of power; None where it keeps none."""
    missing: dict[str, str] = field(default_factory=dict)

    @abstractmethod
    def power_w(self) -> float:
        """Power now, in watts. Raises DeviceError."""

    @abstractmethod
    def counter_j(self) -> float:
        """Reading of the energy counter, in joules. Raises DeviceError."""

    def read_record(self, after_us: int = 0) -> list[tuple[int, float]]:
        """(wall-clock stamp in us, watts) of the device's own samples after `after_us`. Raises DeviceError."""
        raise DeviceError(f"{self.info.label} keeps no record of its power")

    def slow(self) -> SlowReading:
        """Temperature, clocks, throttle reasons, memory; never raises, a reading that fails is None."""
        return SlowReading()

    def state(self) -> DeviceState:
        """Limits, MIG mode, processes; slow, for use outside of windows; never raises."""
        return DeviceState()

    def close(self) -> None:
        """Give back what the device holds; never raises."""
        return


class NullDevice(Device):
    """Stands where a meter was asked for and none was found, and carries the reason."""

    def __init__(self, boundary: str, reason: str) -> None:
        super().__init__(DeviceInfo(label=f"none:{boundary}", boundary=boundary, source="none", name="no meter"))
        self.reason = reason
        self.missing = {"power": reason, "counter": reason}

    def power_w(self) -> float:
        """Raises DeviceError with the reason."""
        raise DeviceError(self.reason, fatal=True)

    def counter_j(self) -> float:
        """Raises DeviceError with the reason."""
        raise DeviceError(self.reason, fatal=True)

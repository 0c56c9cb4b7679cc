"""NVIDIA GPUs through NVML, with the bindings of the package nvidia-ml-py (module `pynvml`), imported lazily.

Units of NVML: power in milliwatts, energy in millijoules since the driver was loaded, memory in bytes, clocks
in MHz.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.device import GPU_BOARD, Device, DeviceError, DeviceInfo, DeviceState, SlowReading
from gainwatt.energy.nvml_errors import CodeError, device_error
from gainwatt.energy.nvml_power import PowerRecord, judge_record, prepare_instant
from gainwatt.energy.nvml_throttle import throttle_seconds
from gainwatt.energy.select import GpuEntry, Selection, resolve

_MIB = float(2**20)
_INSTANT = "nvmlDeviceGetFieldValues(POWER_INSTANT)"


class NvmlDevice(Device):
    """One GPU board."""

    def __init__(self, nvml: Any, handle: Any, info: DeviceInfo) -> None:
        super().__init__(info)
        self._nvml = nvml
        self._handle = handle
        self._absent: set[str] = set()
        self._record: PowerRecord | None = None
        self._instant_call = prepare_instant(nvml, handle)
        self._reasons_call = _first_of(
            nvml, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        )
        self._probe()

    def _probe(self) -> None:
        reasons = []
        for source, read in (("instant", self._instant_power_w), ("average", self._average_power_w)):
            try:
                read()
            except DeviceError as error:
                reasons.append(error.text)
                continue
            self.power_source, self.has_power = source, True
            self._read_power = read
            break
        if not self.has_power:
            self.missing["power"] = "; ".join(reasons)
        try:
            self.record = self._probe_record()
        except DeviceError as error:
            self.missing["record"] = error.text
        try:
            self.counter_j()
            self.has_counter = True
        except DeviceError as error:
            self.missing["counter"] = error.text

    def power_w(self) -> float:
        """Board power in watts: the instant reading where the driver offers it, else the averaged one."""
        if not self.has_power:
            raise DeviceError(self.missing["power"])
        return self._read_power()

    def _probe_record(self) -> tuple[float, float]:
        """(spacing, length) of the driver's record. Raises DeviceError where it cannot stand for polled power.

        It stands beside a polled reading and never alone: the edges of windows ask for the power of that moment.
        """
        if not self.has_power:
            raise DeviceError(self.missing["power"])
        self._record = PowerRecord(self._nvml, self._handle)
        samples = self._record.read()
        return judge_record([stamp for stamp, _ in samples])

    def read_record(self, after_us: int = 0) -> list[tuple[int, float]]:
        """(stamp in microseconds of the wall clock, watts) of the driver's own samples. Raises DeviceError."""
        if self._record is None:
            raise DeviceError(self.missing.get("record", "the driver keeps no record of power"))
        return self._record.read(after_us)

    def counter_j(self) -> float:
        """Board energy in joules since the driver was loaded. Costs 2 to 3 ms a call on data-centre boards."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except Exception as error:
            raise device_error(error, "nvmlDeviceGetTotalEnergyConsumption") from error

    def slow(self) -> SlowReading:
        """Temperature (°C), SM and memory clock (MHz), throttle bits, memory in use (MiB)."""
        nvml, handle = self._nvml, self._handle
        used = self._try("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        return SlowReading(
            temperature_c=self._temperature(),
            sm_clock_mhz=self._try("sm_clock", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=self._try(
                "memory_clock", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)
            ),
            throttle_reasons=self._try("throttle", lambda: self._reasons_call(handle)),
            memory_used_mib=None if used is None else used / _MIB,
        )

    def state(self) -> DeviceState:
        """Limits (W), persistence, MIG mode and the processes that compute on the board."""
        nvml, handle = self._nvml, self._handle
        limit = self._try("limit", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        default = self._try("default_limit", lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
        persistence = self._try("persistence", lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
        mig = self._try("mig", lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
        return DeviceState(
            temperature_c=self._temperature(),
            power_limit_w=None if limit is None else limit / 1e3,
            default_power_limit_w=None if default is None else default / 1e3,
            persistence=None if persistence is None else bool(persistence),
            mig_enabled=None if mig is None else bool(mig),
            processes=self._try("processes", self._processes),
            throttled_s=self._try("throttle_seconds", lambda: throttle_seconds(nvml, handle)),
        )

    def _processes(self) -> tuple[dict[str, Any], ...]:
        listed = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return tuple(
            {
                "pid": int(process.pid),
                "memory_used_mib": None if process.usedGpuMemory is None else process.usedGpuMemory / _MIB,
            }
            for process in listed
        )

    def _temperature(self) -> float | None:
        nvml, handle = self._nvml, self._handle
        return self._try("temperature", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def _instant_power_w(self) -> float:
        try:
            code, milliwatts = self._instant_call()
        except Exception as error:
            raise device_error(error, _INSTANT) from error
        if code != 0:
            raise device_error(CodeError(code), _INSTANT)
        return milliwatts / 1e3

    def _average_power_w(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1e3
        except Exception as error:
            raise device_error(error, "nvmlDeviceGetPowerUsage") from error

    def _try(self, channel: str, read: Callable[[], Any]) -> Any:
        """Value of `read`, or None; a channel that the board does not offer is not asked for again."""
        if channel in self._absent:
            return None
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - see counter_j
            if getattr(error, "value", None) in (3, 13, 26) or not hasattr(error, "value"):
                self._absent.add(channel)
            return None


@dataclass
class NvmlSession:
    """Open NVML: the selected devices, and the reason why there is none or fewer than expected."""

    devices: list[Device] = field(default_factory=list)
    reason: str | None = None
    hint: str = ""
    hidden: bool = False
    """True when GPUs exist and `CUDA_VISIBLE_DEVICES` hides them."""
    selection: Selection = field(default_factory=Selection)
    driver_version: str | None = None
    close: Callable[[], None] = lambda: None


def open_nvml(environ: Mapping[str, str]) -> NvmlSession:
    """Open the boards that `environ` selects. Never raises: what went wrong is in `reason`."""
    try:
        nvml = importlib.import_module("pynvml")
    except Exception as error:  # noqa: BLE001 - a broken installation must not stop the work
        return NvmlSession(
            reason=f"the package nvidia-ml-py cannot be imported: {error}", hint="pip install nvidia-ml-py"
        )
    try:
        nvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - see above
        failure = device_error(error, "nvmlInit")
        return NvmlSession(reason=failure.text, hint=failure.hint)
    try:
        session = _open_selected(nvml, environ)
    except Exception as error:  # noqa: BLE001 - see above
        failure = error if isinstance(error, DeviceError) else device_error(error, "listing the GPUs")
        session = NvmlSession(reason=failure.text, hint=failure.hint)
    session.close = lambda: _shutdown(nvml)
    return session


def _open_selected(nvml: Any, environ: Mapping[str, str]) -> NvmlSession:
    gpus: list[GpuEntry] = []
    handles: dict[int, Any] = {}
    failures: list[DeviceError] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
            gpus.append(_entry(nvml, index, handles[index]))
        except Exception as error:  # noqa: BLE001 - one broken board must not hide the others
            failures.append(device_error(error, f"opening GPU {index}"))
    selection = resolve(environ, gpus)
    session = NvmlSession(selection=selection, reason=selection.reason, hidden=bool(gpus) and not selection.indices)
    if failures and (not gpus or selection.reason):
        session.reason = "; ".join([failure.text for failure in failures] + ([selection.reason or ""] if gpus else []))
        session.hint = failures[0].hint
    with contextlib.suppress(Exception):
        session.driver_version = str(nvml.nvmlSystemGetDriverVersion())
    by_index = {gpu.index: gpu for gpu in gpus}
    for index in selection.indices:
        gpu = by_index[index]
        info = DeviceInfo(
            label=f"gpu:{index}",
            boundary=GPU_BOARD,
            source="nvml",
            name=gpu.name,
            index=index,
            uuid=gpu.uuid,
            mig_ids=tuple(selection.mig_ids.get(index, ())),
        )
        session.devices.append(NvmlDevice(nvml, handles[index], info))
    return session


def _entry(nvml: Any, index: int, handle: Any) -> GpuEntry:
    return GpuEntry(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        mig_uuids=_mig_uuids(nvml, handle),
    )


def _mig_uuids(nvml: Any, handle: Any) -> tuple[str, ...]:
    found: list[str] = []
    # Boards without MIG answer NOT_SUPPORTED; free slots answer NOT_FOUND.
    with contextlib.suppress(Exception):
        if not nvml.nvmlDeviceGetMigMode(handle)[0]:
            return ()
        for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(Exception):
                found.append(str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))))
    return tuple(found)


def _first_of(nvml: Any, *names: str) -> Callable[[Any], int]:
    for name in names:
        if hasattr(nvml, name):
            return getattr(nvml, name)
    raise DeviceError("these bindings have no call for throttle reasons")


def _shutdown(nvml: Any) -> None:
    with contextlib.suppress(Exception):
        nvml.nvmlShutdown()

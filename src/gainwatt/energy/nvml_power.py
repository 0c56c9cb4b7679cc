"""Power of an NVIDIA board without the costs of the bindings: instant power, and the driver's own record of power.

The record (`nvmlDeviceGetSamples` with NVML_TOTAL_POWER_SAMPLES in the NVML API reference) is a ring of samples that
the driver takes by itself. On an H200 (driver 580) it holds 119 samples, 20 ms apart: 2.36 s. A call costs 0.45 ms of
CPU time however many samples it returns, so that one call a second brings 50 samples for half of what polling instant
power ten times costs. Samples follow a step in load within 12 to 36 ms there; instant power takes up to 112 ms.
"""

from __future__ import annotations

import ctypes
import itertools
import statistics
import struct
from collections.abc import Callable, Sequence
from typing import Any

from gainwatt.energy.device import DeviceError
from gainwatt.energy.nvml_errors import CodeError, device_error

_SAMPLES = "nvmlDeviceGetSamples(TOTAL_POWER)"
_TOTAL_POWER = 0
_ROOM_MIN = 256
_INSUFFICIENT_SIZE, _NOT_FOUND, _FUNCTION_NOT_FOUND, _NO_DATA = 7, 6, 13, 21
# nvmlValueType_t: double, unsigned int, unsigned long, unsigned long long, signed long long, signed int, unsigned
# short. A sample is an unsigned 64-bit stamp and a union of 8 bytes, of which a short type fills the first.
_LAYOUTS = {0: "=Qd", 1: "=QI4x", 2: "=QQ", 3: "=QQ", 4: "=Qq", 5: "=Qi4x", 6: "=QH6x"}
_SAMPLE_BYTES = 16
SAMPLES_MIN = 20
SPACING_MAX_S = 0.1
LENGTH_MIN_S = 1.0
"""A record of fewer or rarer samples, or a shorter one, is no substitute for polling ten times a second."""


def judge_record(stamps_us: Sequence[int]) -> tuple[float, float]:
    """(spacing, length) in seconds of a record with these stamps (us). Raises DeviceError where polling is better."""
    steps = [1e-6 * (late - early) for early, late in itertools.pairwise(sorted(stamps_us))]
    if len(steps) < SAMPLES_MIN:
        raise DeviceError(f"{_SAMPLES} holds {len(stamps_us)} samples: too few to read it instead of polling")
    spacing, length = statistics.median(steps), sum(steps)
    if not 0 < spacing <= SPACING_MAX_S or length < LENGTH_MIN_S:
        raise DeviceError(f"{_SAMPLES} holds {length:.2f} s at {spacing:.3f} s a sample: polling is better")
    return spacing, length


def prepare_instant(nvml: Any, handle: Any) -> Callable[[], tuple[int, int]]:
    """A call that reads instant power into a buffer made once; returns (NVML code, milliwatts).

    The bindings build a structure for every call. The sampler is woken with cold caches ten times a second, where that
    alone costs as much as the rest of the round. Sampler and caller may share the buffer: both read the same quantity.
    """
    values = (nvml.c_nvmlFieldValue_t * 1)()
    values[0].fieldId = getattr(nvml, "NVML_FI_DEV_POWER_INSTANT", 186)
    reference = ctypes.byref(values)
    entry = values[0]
    function: Any = None

    def read() -> tuple[int, int]:
        nonlocal function
        if function is None:
            # Looked up at the first call: a library without the function is one more failed reading, no failed start.
            function = getattr(nvml.nvmlLib, "nvmlDeviceGetFieldValues", None)
            if function is None:
                return _FUNCTION_NOT_FOUND, 0
        code = function(handle, 1, reference)
        return code or entry.nvmlReturn, entry.value.uiVal

    return read


class PowerRecord:
    """Reads the driver's record of one board. One call at a time: the caller keeps threads apart."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Ask how long the record is and make room for it. Raises DeviceError where the driver keeps none."""
        self._handle = handle
        self._call: Any = getattr(nvml.nvmlLib, "nvmlDeviceGetSamples", None)
        if self._call is None:
            raise device_error(CodeError(_FUNCTION_NOT_FOUND), _SAMPLES)
        if ctypes.sizeof(nvml.c_nvmlSample_t) != _SAMPLE_BYTES:
            raise DeviceError(f"{_SAMPLES}: these bindings describe a sample that is not {_SAMPLE_BYTES} bytes long")
        self._type, self._count = ctypes.c_uint(0), ctypes.c_uint(0)
        self._room = 0
        self._buffer: Any = None
        self._make_room()

    def read(self, after_us: int = 0) -> list[tuple[int, float]]:
        """(stamp in microseconds of the driver's clock, watts) of all samples after `after_us`, in the driver's order.

        Empty where there is nothing newer. Raises DeviceError.
        """
        code = self._ask(after_us)
        if code == _INSUFFICIENT_SIZE:
            self._make_room()
            code = self._ask(after_us)
        if code in (_NOT_FOUND, _NO_DATA):
            return []
        if code:
            raise device_error(CodeError(code), _SAMPLES)
        layout = _LAYOUTS.get(self._type.value)
        if layout is None:
            raise DeviceError(f"{_SAMPLES} returned values of type {self._type.value}, which is not documented")
        count = min(self._count.value, self._room)
        raw = ctypes.string_at(self._buffer, _SAMPLE_BYTES * count)
        return [(stamp, milliwatts / 1e3) for stamp, milliwatts in struct.iter_unpack(layout, raw)]

    def _ask(self, after_us: int) -> int:
        self._count.value = self._room
        return int(
            self._call(
                self._handle,
                ctypes.c_uint(_TOTAL_POWER),
                ctypes.c_ulonglong(after_us),
                ctypes.byref(self._type),
                ctypes.byref(self._count),
                self._buffer,
            )
        )

    def _make_room(self) -> None:
        """Without a buffer the driver says how many samples it keeps."""
        self._buffer = None
        code = self._ask(0)
        if code:
            raise device_error(CodeError(code), _SAMPLES)
        self._room = max(_ROOM_MIN, 2 * self._count.value, 2 * self._room)
        self._buffer = ctypes.create_string_buffer(_SAMPLE_BYTES * self._room)

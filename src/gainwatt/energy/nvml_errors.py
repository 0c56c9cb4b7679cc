"""What each NVML return code means for a measurement.

Codes and names are those of `nvmlReturn_t` in the NVML API reference and of the `nvidia-ml-py` bindings.
"""

from __future__ import annotations

from dataclasses import dataclass

from gainwatt.energy.device import DeviceError


@dataclass(frozen=True)
class NvmlCode:
    """One return code: name, meaning in plain words, what to do, and whether the device is gone for good."""

    name: str
    text: str
    hint: str = ""
    fatal: bool = False


_DRIVER = "check the driver with nvidia-smi; in a container start it with the NVIDIA runtime (--gpus all)"
_REBOOT = "the GPU needs a reset or the machine a restart; look for Xid messages in the kernel log"

NVML_CODES: dict[int, NvmlCode] = {
    1: NvmlCode("UNINITIALIZED", "NVML was not initialised or was shut down", _DRIVER, fatal=True),
    2: NvmlCode("INVALID_ARGUMENT", "NVML refused an argument"),
    3: NvmlCode("NOT_SUPPORTED", "this GPU does not offer the reading"),
    4: NvmlCode(
        "NO_PERMISSION", "this user may not take the reading", "ask the administrator or run outside the container"
    ),
    5: NvmlCode("ALREADY_INITIALIZED", "NVML was initialised twice"),
    6: NvmlCode("NOT_FOUND", "NVML did not find the object that was asked for"),
    7: NvmlCode("INSUFFICIENT_SIZE", "a buffer was too small"),
    8: NvmlCode("INSUFFICIENT_POWER", "the GPU's power cables are not attached", _REBOOT),
    9: NvmlCode("DRIVER_NOT_LOADED", "the NVIDIA kernel driver is not loaded", _DRIVER, fatal=True),
    10: NvmlCode("TIMEOUT", "the driver did not answer in time"),
    11: NvmlCode("IRQ_ISSUE", "the kernel reported an interrupt problem of the GPU", _REBOOT),
    12: NvmlCode("LIBRARY_NOT_FOUND", "the NVML library (libnvidia-ml.so.1) was not found", _DRIVER, fatal=True),
    13: NvmlCode("FUNCTION_NOT_FOUND", "the driver is older than the reading", "update the NVIDIA driver"),
    14: NvmlCode("CORRUPTED_INFOROM", "the GPU's infoROM is damaged"),
    15: NvmlCode("GPU_IS_LOST", "the GPU fell off the bus or cannot be reached", _REBOOT, fatal=True),
    16: NvmlCode("RESET_REQUIRED", "the GPU must be reset before it works again", _REBOOT, fatal=True),
    17: NvmlCode("OPERATING_SYSTEM", "the operating system blocked the request", "check cgroup and container rules"),
    18: NvmlCode(
        "LIB_RM_VERSION_MISMATCH",
        "the NVML library and the kernel driver have different versions",
        "restart the machine after the driver update",
        fatal=True,
    ),
    19: NvmlCode("IN_USE", "the GPU is in use by another request"),
    20: NvmlCode("MEMORY", "NVML ran out of memory"),
    21: NvmlCode("NO_DATA", "there is no data yet"),
    22: NvmlCode("VGPU_ECC_NOT_SUPPORTED", "not offered on a virtual GPU with ECC"),
    23: NvmlCode("INSUFFICIENT_RESOURCES", "the GPU has not enough free resources"),
    24: NvmlCode("FREQ_NOT_SUPPORTED", "the frequency is not offered"),
    25: NvmlCode("ARGUMENT_VERSION_MISMATCH", "bindings and driver disagree on a structure", "update nvidia-ml-py"),
    26: NvmlCode("DEPRECATED", "the driver no longer offers the reading"),
    27: NvmlCode("NOT_READY", "the GPU is not ready"),
    28: NvmlCode("GPU_NOT_FOUND", "no such GPU", _DRIVER, fatal=True),
    29: NvmlCode("INVALID_STATE", "the GPU's state does not allow the reading"),
    30: NvmlCode("RESET_TYPE_NOT_SUPPORTED", "this kind of reset is not offered"),
    999: NvmlCode("UNKNOWN", "the driver reported an unknown error"),
}


def describe(code: int) -> NvmlCode:
    """Entry for `code`; a code that the table does not know is named by its number."""
    return NVML_CODES.get(code, NvmlCode(f"CODE_{code}", "the driver returned a code that is not documented"))


class CodeError(Exception):
    """Carries a return code that did not arrive as an exception of the bindings to `device_error`."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = int(value)


def device_error(error: BaseException, call: str) -> DeviceError:
    """Translate an exception of the bindings into one that names the call, the code and the remedy."""
    code = getattr(error, "value", None)
    if not isinstance(code, int):
        return DeviceError(f"{call} failed: {type(error).__name__}: {error}")
    entry = describe(code)
    text = f"{call} returned NVML error {code} ({entry.name}): {entry.text}"
    return DeviceError(text, code=code, hint=entry.hint, fatal=entry.fatal)

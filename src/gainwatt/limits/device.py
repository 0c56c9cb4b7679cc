"""The machine's limits, measured: bytes per second, operations per second, and what one launch costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.errors import InputError

SAMPLES = 7
SAMPLE_S = 0.05
"""A sample repeats its work until this much time has passed, so that the clock's own cost does not count."""
_COPY_BYTES = {"cuda": 2**30, "cpu": 2**28}
"""Far beyond any cache, so that memory is what is measured."""
_MATMUL_SIZE = {"cuda": 8192, "cpu": 768}
_LAUNCHES = 1000


@dataclass(frozen=True)
class DeviceLimits:
    """Measured limits of one device: medians, with (largest − smallest) / median as their spread.

    `bandwidth_gb_s`: 10^9 bytes per second, read and written together, of a copy. `tflop_s`: 10^12 operations per
    second of a square matrix product. `launch_us`: microseconds per operation when tiny ones are queued one after
    another, the least that an operation launched by itself costs. `how` says what was run on what.
    """

    bandwidth_gb_s: float
    tflop_s: float
    launch_us: float
    how: str
    bandwidth_spread: float | None = None
    tflop_spread: float | None = None
    launch_spread: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


def measure_limits(device: str, dtype: str) -> DeviceLimits:
    """Measure the limits of `device` (`cpu`, `cuda`, `cuda:1`) for products of matrices of `dtype` (fp32, bf16, fp16).

    fp32 products run as torch is set up: on a GPU in full precision, not in TF32, unless the process allowed that.
    Takes under 3 s. Raises InputError for a device that torch does not have, MemoryError or torch.OutOfMemoryError
    where the device is full.
    """
    import torch

    from gainwatt.modeling import TORCH_NAMES, torch_dtype

    if dtype not in TORCH_NAMES:
        raise InputError(f"cannot measure products of {dtype!r}", f"use one of {', '.join(TORCH_NAMES)}")
    kind = device.partition(":")[0]
    if kind not in _COPY_BYTES or (kind == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"cannot measure the device {device!r}", "use cpu, or cuda where torch sees a GPU")
    with torch.inference_mode():
        bandwidth = [value / 1e9 for value in _copy_bytes_s(device, kind)]
        tflop = [value / 1e12 for value in _matmul_flop_s(device, kind, torch_dtype(dtype))]
        launch = [1e6 / value for value in _launches_s(device)]
    name = torch.cuda.get_device_name(device) if kind == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    size = _MATMUL_SIZE[kind]
    return DeviceLimits(
        bandwidth_gb_s=statistics.median(bandwidth),
        tflop_s=statistics.median(tflop),
        launch_us=statistics.median(launch),
        how=f"{name}, torch {torch.__version__}: copy of {_COPY_BYTES[kind] // 2**20} MiB (read + written), {dtype} "
        f"product of {size} x {size} matrices, {_LAUNCHES} additions of 1 element in a row; medians of {SAMPLES}",
        bandwidth_spread=_spread(bandwidth),
        tflop_spread=_spread(tflop),
        launch_spread=_spread(launch),
    )


def _copy_bytes_s(device: str, kind: str) -> list[float]:
    import torch

    source = torch.zeros(_COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _rates(lambda: target.copy_(source), 2 * _COPY_BYTES[kind], device)


def _matmul_flop_s(device: str, kind: str, dtype: Any) -> list[float]:
    import torch

    size = _MATMUL_SIZE[kind]
    left = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(left)
    weight = torch.randn(size, size, device=device).to(dtype).t()  # as linear layers store theirs
    return _rates(lambda: torch.mm(left, weight, out=out), 2 * size**3, device)


def _launches_s(device: str) -> list[float]:
    import torch

    number = torch.zeros(1, device=device)

    def launch() -> None:
        for _ in range(_LAUNCHES):
            number.add_(1)

    return _rates(launch, _LAUNCHES, device)


def _rates(work: Callable[[], Any], amount: float, device: str) -> list[float]:
    """`amount` per second of `work`, SAMPLES times; each sample is waited for as a whole."""
    _wait(device, work, 2)  # the first call sets up kernels and touches fresh memory
    once_s = _wait(device, work, 1)
    calls = max(1, min(1000, round(SAMPLE_S / max(once_s, 1e-7))))
    return [calls * amount / _wait(device, work, calls) for _ in range(SAMPLES)]


def _wait(device: str, work: Callable[[], Any], calls: int) -> float:
    import torch

    begin = time.perf_counter()
    for _ in range(calls):
        work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return max(time.perf_counter() - begin, 1e-9)


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)

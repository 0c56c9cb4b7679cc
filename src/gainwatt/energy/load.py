"""A load to measure against: matrix products on the GPU, or a busy CPU core where there is no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable

Load = Callable[[float], None]


def gpu_load(size: int = 8192) -> tuple[Load | None, str]:
    """A function that keeps the first CUDA device busy for some seconds, and its name; None and why not.

    Products of bf16 matrices of `size` × `size`, waited for in groups of ten, so that the function ends with its work.
    """
    try:
        import torch
    except ImportError as error:
        return None, f"torch cannot be imported: {error}"
    if not torch.cuda.is_available():
        return None, "torch sees no CUDA device"
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    out = torch.empty_like(left)

    def run(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(10):
                torch.mm(left, left, out=out)
            torch.cuda.synchronize()

    run(0.0)
    return run, f"bf16 products of {size} x {size} matrices with torch {torch.__version__}"


def cpu_load() -> tuple[Load, str]:
    """A function that keeps one CPU core busy for some seconds, and its name."""

    def run(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(number * number for number in range(10_000))

    return run, "one busy CPU core"

"""Waits for a GPU's queued work, so that a phase ends when its work ends and not when it was queued."""

from __future__ import annotations

import sys


def cuda_in_use() -> bool:
    """Whether torch holds a CUDA context in this process; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "cuda") and bool(torch.cuda.is_initialized())


def cuda_synchronize() -> None:
    """Wait for all CUDA devices that torch uses in this process; does nothing where torch has no CUDA context.

    torch is never imported here, and no context is created on a GPU that the process does not use.
    """
    torch = sys.modules.get("torch")
    if torch is None or not cuda_in_use():
        return
    count = torch.cuda.device_count()
    if count == 1:
        torch.cuda.synchronize()
        return
    for index in range(count):
        if torch.cuda.memory_reserved(index) > 0:
            torch.cuda.synchronize(index)

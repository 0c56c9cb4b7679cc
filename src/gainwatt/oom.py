"""Telling a lack of memory from other failures, whichever library ran into it."""

from __future__ import annotations

import errno

# torch has a class of its own for GPUs only: a CPU allocation that fails is a plain RuntimeError, and libraries below
# torch report a failed allocation in their own words.
_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory (os error 12)",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True where `error` says that main or GPU memory did not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(message in str(error) for message in _MESSAGES)

"""A GPU warmed up by the batches with which work begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gainwatt.oom import is_out_of_memory

Work = TypeVar("Work")


def first_and_last(waiting: Sequence[Work], size: int) -> list[Sequence[Work]]:
    """The batches of at most `size` with which the work begins and ends; one where there is only one.

    A GPU loads and chooses kernels by the shape of a batch, and the last batch has another one than the rest. Cold,
    both cost up to a second on an H200: of the 3.0 s of a perplexity of 200,000 tokens 0.7 s passed before the first
    batch and 0.6 s before the last. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"a batch holds at least one piece of work, not {size}")
    if len(waiting) <= size:
        return [waiting] if waiting else []
    return [waiting[:size], waiting[-(len(waiting) % size or size) :]]


def warm_up(work: Callable[[Sequence[Work]], Any], waiting: Sequence[Work], size: int) -> None:
    """Call `work` on the first and the last batch, forget the results, and wait for the GPU.

    A batch for which memory does not suffice is left to the measured work, which halves it and says so. What the
    allocator has kept of the others stays: the work would have to ask the driver for it again.
    """
    import torch

    for batch in first_and_last(waiting, size):
        try:
            work(batch)
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here: while the exception lives, its frames hold the batch's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if torch.cuda.is_available():
        torch.cuda.synchronize()

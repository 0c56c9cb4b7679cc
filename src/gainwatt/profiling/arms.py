"""An arm in memory: its checkpoint loaded as the scheme, mode and attention say, and what that took."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import UnavailableError
from gainwatt.limits import ModelShape
from gainwatt.modeling import linear_modules, load_model, loaded_bytes, memory_mib, reset_peak_memory
from gainwatt.schemes import get_scheme
from gainwatt.study.profiling_cells import Arm

_ATTENTION = {"sdpa": "sdpa", "eager": "eager", "flash": "flash_attention_2"}
_DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass
class LoadedArm:
    """A model on the device. Memory in MiB is this arm's own: what others hold in the same process is subtracted."""

    arm: Arm
    model: Any
    checkpoint: Checkpoint
    shape: ModelShape | None
    shape_reason: str | None
    dtype: str
    load_s: float
    parameter_bytes: int
    after_load_mib: float | None
    load_peak_mib: float | None
    resident_mib: float | None = None
    """What the arm holds now: `after_load_mib`, and what its first forward pass added for good."""
    compiled: bool = False
    """Whether torch was seen to compile it: another load may find what it needs compiled already."""

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one number of the arithmetic and the cache."""
        return _DTYPE_BYTES[self.dtype]

    def used_bytes(self) -> int:
        """Bytes of the weights now: some schemes restore them for good at the first forward pass."""
        return loaded_bytes(self.model)

    def layers(self) -> str:
        """Classes and types of the linear layers with their counts: what multiplies the matrices."""
        return ", ".join(f"{count} {name}" for name, count in linear_modules(self.model).items())


def load_arm(arm: Arm, checkpoint: Checkpoint, dtype: str, *, trust_remote_code: bool) -> LoadedArm:
    """Load `checkpoint` for `arm`; `dtype` is the study's type where the scheme has none of its own.

    Raises UnavailableError where this machine lacks what the arm needs, InputError for a checkpoint that cannot be
    read, and MemoryError or torch.OutOfMemoryError where memory does not suffice.
    """
    scheme = get_scheme(arm.scheme)
    free_memory()
    before = memory_mib()["allocated_mib"]
    reset_peak_memory()
    begin = time.perf_counter()
    model = load_model(checkpoint, scheme, dtype, trust_remote_code=trust_remote_code)
    set_attention(model, arm.attention)
    load_s = time.perf_counter() - begin
    after, peak = memory_mib()["allocated_mib"], memory_mib()["peak_allocated_mib"]
    shape, reason = _shape(checkpoint)
    held = None if after is None or before is None else after - before
    return LoadedArm(
        arm=arm,
        model=model,
        checkpoint=checkpoint,
        shape=shape,
        shape_reason=reason,
        dtype=scheme.compute_dtype or dtype,
        load_s=load_s,
        parameter_bytes=loaded_bytes(model),
        after_load_mib=held,
        load_peak_mib=None if peak is None or before is None else peak - before,
        resident_mib=held,
    )


def set_attention(model: Any, name: str) -> None:
    """Switch the attention implementation. Raises UnavailableError where the model or the machine does not have it."""
    wanted = _ATTENTION[name]
    if getattr(model.config, "_attn_implementation", None) == wanted:
        return
    try:
        model.set_attn_implementation(wanted)
    except (AttributeError, ImportError, ValueError) as error:
        raise UnavailableError(f"the attention implementation {wanted} cannot be used: {error}") from error
    found = getattr(model.config, "_attn_implementation", None)
    if found != wanted:
        raise UnavailableError(f"the model kept the attention implementation {found} instead of {wanted}")


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _shape(checkpoint: Checkpoint) -> tuple[ModelShape | None, str | None]:
    try:
        return ModelShape.from_checkpoint(checkpoint.folder), None
    except UnavailableError as error:
        return None, error.what

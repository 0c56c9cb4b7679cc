"""Roofs: the speed that a model's bytes and operations allow on a machine, and what a measured speed is of it.

The roofline model (Williams et al., https://doi.org/10.1145/1498765.1498785): work that moves `bytes` and computes
`flops` takes at least as long as the slower of the two, max(bytes / bandwidth, flops / arithmetic). Decoding moves all
weights once per step whatever the batch, so that it starts at the bandwidth roof and meets the arithmetic one as the
batch grows; reading a prompt is one large product and lives under the arithmetic roof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gainwatt.limits.device import DeviceLimits
from gainwatt.limits.shape import ModelShape

Regime = Literal["launch", "bandwidth", "compute"]

BUSY_SHARE = 0.7
"""A device that works in less than this share of the time waits for its host."""
EXPLAINED_SHARE = 0.4
"""Without a look at the device: below this share of the roof neither bandwidth nor arithmetic explains the time."""


@dataclass(frozen=True)
class Roof:
    """Least seconds of one piece of work (a decoding step, a prompt): by its bytes and by its operations."""

    bandwidth_s: float
    compute_s: float

    @property
    def seconds(self) -> float:
        """The larger of the two: no implementation is faster."""
        return max(self.bandwidth_s, self.compute_s)

    @property
    def bound(self) -> Regime:
        """Which of the two it is."""
        return "bandwidth" if self.bandwidth_s >= self.compute_s else "compute"


def decode_roof(
    shape: ModelShape,
    limits: DeviceLimits,
    batch: int,
    context_tokens: float,
    weight_bytes: float | None = None,
    kv_dtype_bytes: float = 2,
) -> Roof:
    """Least seconds of one decoding step of `batch` sequences with `context_tokens` tokens in each one's cache."""
    moved = shape.decode_bytes_per_step(batch, context_tokens, weight_bytes, kv_dtype_bytes)
    return Roof(moved / (limits.bandwidth_gb_s * 1e9), batch * shape.flops_per_token(context_tokens) / _flop_s(limits))


def prefill_roof(
    shape: ModelShape, limits: DeviceLimits, prompt_tokens: int, batch: int = 1, weight_bytes: float | None = None
) -> Roof:
    """Least seconds in which `batch` prompts of `prompt_tokens` tokens are read in one pass."""
    moved = shape.read_bytes(weight_bytes)
    return Roof(moved / (limits.bandwidth_gb_s * 1e9), batch * shape.prefill_flops(prompt_tokens) / _flop_s(limits))


def decode_roof_tok_s(
    shape: ModelShape,
    limits: DeviceLimits,
    batch: int,
    context_tokens: float,
    weight_bytes: float | None = None,
    kv_dtype_bytes: float = 2,
) -> float:
    """Tokens per second of all sequences together that no decoder of this shape passes on this machine.

    A step makes `batch` tokens in at least `decode_roof(...).seconds`: at batch 1 that is bandwidth over the weights,
    e.g. 4300 GB/s over Qwen2.5-1.5B's 3.09 GB gives 1,393 tokens/s. `weight_bytes`: in memory (None: as stored).
    """
    return batch / decode_roof(shape, limits, batch, context_tokens, weight_bytes, kv_dtype_bytes).seconds


def prefill_roof_tok_s(
    shape: ModelShape, limits: DeviceLimits, prompt_tokens: int, batch: int = 1, weight_bytes: float | None = None
) -> float:
    """Prompt tokens per second of `batch` prompts read in one pass that this machine cannot pass.

    Two operations per body parameter and token, the causal attention and one head per prompt, over the machine's
    arithmetic; a short prompt is bounded by reading the weights once instead.
    """
    return batch * prompt_tokens / prefill_roof(shape, limits, prompt_tokens, batch, weight_bytes).seconds


def share(measured: float | None, roof: float | None) -> float | None:
    """`measured` / `roof`, both in the same unit (tokens/s); None where one is unknown. Above 1 something is wrong."""
    return None if measured is None or not roof else measured / roof


def regime(
    measured_s: float, roof: Roof, *, device_s: float | None = None, launches: int | None = None,
    launch_us: float | None = None,
) -> Regime:  # fmt: skip
    """What bounds a step (or a prompt) that took `measured_s`: `launch`, `bandwidth` or `compute`.

    launch     the device waits for its host: each operation is launched by itself and costs more to launch than to
               do. Faster memory would not help; CUDA graphs, compiling or larger batches do.
    bandwidth  the device is busy and its least time is set by the bytes that it reads.
    compute    the device is busy and its least time is set by its operations.

    The best evidence at hand decides: `device_s`, the time that the device's kernels took (a profiler's sum), against
    `measured_s`; else the least time of `launches` launches of `launch_us` microseconds against the roof; else the
    roof's share of `measured_s` alone, which a slow kernel and a waiting device lower alike.
    """
    if device_s is not None:
        waits = device_s < BUSY_SHARE * measured_s
    elif launches is not None and launch_us is not None:
        waits = launches * launch_us * 1e-6 >= roof.seconds
    else:
        waits = roof.seconds < EXPLAINED_SHARE * measured_s
    return "launch" if waits else roof.bound


def _flop_s(limits: DeviceLimits) -> float:
    return limits.tflop_s * 1e12

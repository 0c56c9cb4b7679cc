"""A cell beside the machine's limits: operations, shares of the roofs, and what bounds its prompt and its steps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from gainwatt.limits import DeviceLimits, ModelShape, Roof, regime, share
from gainwatt.limits.share import decode_roof, prefill_roof
from gainwatt.profiling.arms import LoadedArm
from gainwatt.profiling.trial import Trial
from gainwatt.study.profiling_cells import Load

if TYPE_CHECKING:
    from gainwatt.profiling.cells import Numbers

_ROOF_NAMES = (
    "flops_per_request", "achieved_tflop_s", "prefill_roof_tok_s", "prefill_over_roof", "prefill_regime",
    "decode_roof_tok_s", "decode_over_roof", "decode_regime", "step_flops", "step_bytes", "prefill_flops",
    "prefill_bytes",
)  # fmt: skip


def limits_of(limits: dict[str, Any], dtype: str) -> tuple[DeviceLimits | None, str | None]:
    """The limits measured for products of `dtype`, or why there are none."""
    found = limits.get(dtype)
    return (found, None) if isinstance(found, DeviceLimits) else (None, str(found or "the limits were not measured"))


def roofs(
    cell: Numbers, loaded: LoadedArm, load: Load, trial: Trial, limits: tuple[DeviceLimits | None, str | None]
) -> None:
    """Fill in everything that needs the model's shape and the machine's limits."""
    device, why = limits
    if loaded.shape is None or device is None:
        for name in _ROOF_NAMES:
            cell.put(name, None, loaded.shape_reason if loaded.shape is None else why)
        return
    shape = in_memory(loaded.shape, trial.used_bytes, loaded.dtype_bytes)
    batch, prompt, new = load.batch, load.prompt_tokens, load.new_tokens
    context = prompt + new / 2  # the mean over the steps, whose contexts run from prompt + 1 to prompt + new - 1
    flops = shape.request_flops(prompt, new)
    cell["flops_per_request"] = flops
    cell["achieved_tflop_s"] = flops * cell["requests_s"] / 1e12
    reading = prefill_roof(shape, device, prompt, batch)
    roof_tok_s = batch * prompt / reading.seconds
    cell["prefill_roof_tok_s"] = roof_tok_s
    cell["prefill_over_roof"] = share(cell["prefill_tok_s"], roof_tok_s)
    cell["prefill_flops"], cell["prefill_bytes"] = batch * shape.prefill_flops(prompt), shape.read_bytes()
    ttft_s = cell["ttft_ms_mean"] / 1000
    cell["prefill_regime"] = _regime(ttft_s, reading, device, cell["prefill_device_s"], cell["prefill_launches"])
    if new == 1:
        for name in ("decode_roof_tok_s", "decode_over_roof", "decode_regime", "step_flops", "step_bytes"):
            cell.put(name, None, "one new token: there is no decoding step")
        return
    step = decode_roof(shape, device, batch, context, kv_dtype_bytes=loaded.dtype_bytes)
    cell["decode_roof_tok_s"] = batch / step.seconds
    cell["decode_over_roof"] = share(cell["decode_tok_s"], batch / step.seconds)
    cell["step_flops"] = batch * shape.flops_per_token(context)
    cell["step_bytes"] = shape.decode_bytes_per_step(batch, context, kv_dtype_bytes=loaded.dtype_bytes)
    step_s = cell["tpot_ms_mean"] / 1000
    cell["decode_regime"] = _regime(step_s, step, device, cell["step_device_s"], cell["step_launches"])


def in_memory(shape: ModelShape, used_bytes: int | None, dtype_bytes: int) -> ModelShape:
    """The shape with the bytes of its weights in memory, and an untied input table in the type of the arithmetic.

    The table is known by its own size: the ratio of memory to disk does not tell it where packed matrices are restored
    (the table stays as it is) or a checkpoint is loaded in half its width (the table shrinks as well).
    """
    if used_bytes is None:
        return shape
    table = shape.vocab_size * shape.hidden_size * dtype_bytes if shape.embedding_bytes else 0
    return dataclasses.replace(shape, weight_bytes=used_bytes, embedding_bytes=table)


def _regime(seconds: float, roof: Roof, limits: DeviceLimits, device_s: float | None, launches: float | None) -> str:
    count = None if launches is None else round(launches)
    return regime(seconds, roof, device_s=device_s, launches=count, launch_us=limits.launch_us)

"""How far the restored weights of a quantized checkpoint are from the weights it was made from, matrix by matrix.

For every scheme the same number: relative_mse = ‖Ŵ - W‖² / ‖W‖², with Ŵ restored from the stored codes and scales of
the finished checkpoint and brought back to the scale of W where the tool moved factors between layers. GPTQ accepts a
larger one on purpose: it minimizes the error of the layer's output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.schemes import Scheme

Row = dict[str, Any]
_BLOCK_ELEMENTS = 1 << 22  # 16 MiB of fp32 at a time


def layer_errors(dense: Path, quantized: Path, scheme: Scheme) -> tuple[list[Row], float | None]:
    """One row per matrix (module_name, format, numel, relative_mse, max_abs_error) and the pooled relative_mse,
    which is None where all weights are zero.

    Weights are read block by block. Raises InputError for a checkpoint that does not fit the one it was made from.
    """
    if scheme.kind == "llamacpp":
        from gainwatt.quantization.gguf_errors import gguf_errors

        return gguf_errors(dense, quantized)
    from gainwatt.weights.evaluated import Side, compare
    from gainwatt.weights.select import matrices

    side = Side.read(dense, quantized)
    rows, pooled = compare(
        side, None, scheme.name, matrices(dense, include_embeddings=False), elements=_BLOCK_ELEMENTS, device="cpu"
    )
    kept = ("module_name", "format", "numel", "relative_mse", "max_abs_error")
    return [{key: row[key] for key in kept} for row in rows], pooled["relative_mse"]

"""The weight error of a GGUF file, with the reference decoders of the `gguf` package; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.engines.llamacpp import FILE
from gainwatt.errors import InputError
from gainwatt.quantization.checks import read_config
from gainwatt.quantization.gguf_write import read_numpy, reorder, rope_order, tensor_names
from gainwatt.weights.tensors import read_tensors


def gguf_errors(dense: Path, quantized: Path) -> tuple[list[dict[str, Any]], float | None]:
    """Rows and pooled relative_mse of the matrices in the blocks, as `errors.layer_errors` gives them."""
    import gguf
    import numpy as np

    config = read_config(dense)
    names = tensor_names(str(config["model_type"]), int(config["num_hidden_layers"]))
    order = rope_order(config)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(quantized / FILE).tensors}
    rows: list[dict[str, Any]] = []
    error_sum = weight_sum = 0.0
    for name, tensor in read_tensors(dense).items():
        if len(tensor.shape) != 2 or ".layers." not in name:
            continue
        found = stored.get(names(name) or "")
        if found is None:
            raise InputError(f"{quantized / FILE} lacks the tensor of {name}", "quantize the checkpoint again")
        values = gguf.quants.dequantize(found.data, found.tensor_type).reshape(tensor.shape)
        weights = read_numpy(tensor)
        difference = reorder(values, order(found.name), back=True) - weights
        error, weight = (float(np.dot(part.ravel(), part.ravel())) for part in (difference, weights))
        error_sum, weight_sum = error_sum + error, weight_sum + weight
        rows.append(
            {
                "module_name": name.removesuffix(".weight"),
                "format": f"gguf-{found.tensor_type.name}",
                "numel": tensor.numel,
                "relative_mse": error / weight if weight else None,
                "max_abs_error": float(np.abs(difference).max()),
            }
        )
    if not rows:
        raise InputError(f"the checkpoint in {dense} has no matrices in its blocks", "give a decoder model")
    return rows, error_sum / weight_sum if weight_sum else None

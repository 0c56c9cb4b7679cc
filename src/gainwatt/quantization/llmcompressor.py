"""llm-compressor: AWQ, GPTQ and round to nearest, saved as compressed-tensors, which transformers and vLLM read.

What is not named here is llm-compressor's own default, and the folder's recipe.yaml tells it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.modeling import dtype_option
from gainwatt.quantization.calibration import Calibration
from gainwatt.quantization.made import Made
from gainwatt.schemes import Scheme

# The output layer stays as it is in every scheme: where it is tied to the embedding it could not be quantized alone.
_LAYERS: dict[str, Any] = {"targets": ["Linear"], "ignore": ["lm_head"]}


def quantize(
    checkpoint: Checkpoint,
    scheme: Scheme,
    folder: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    calibration: Calibration | None,
    grid_points: int,
) -> Made:
    """Quantize `checkpoint` by `scheme` and save it to `folder`; `calibration` is None for a scheme that sees no text.

    The search errors of AWQ are mean squared errors of the output of the layer's parent module.
    """
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    _no_pinning_without_accelerator()
    # Loaded to main memory: llm-compressor brings one layer after the other to the GPU.
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        use_safetensors=True,
        **dtype_option(dtype),
    )
    recipe = _recipe(scheme, grid_points)
    oneshot(model=model, recipe=recipe, **_dataset(calibration))
    model.save_pretrained(folder, save_compressed=True)
    first = recipe[0]
    return Made(first.errors() if hasattr(first, "errors") else {})


def _recipe(scheme: Scheme, grid_points: int) -> list[Any]:
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    options: dict[str, Any] = {**_LAYERS, "scheme": scheme.options["scheme"]}
    if scheme.options["algorithm"] == "gptq":
        return [GPTQModifier(**options)]
    rounding = QuantizationModifier(**options)
    if scheme.options["algorithm"] == "awq":
        from gainwatt.quantization.awq import KeepingAWQModifier

        return [KeepingAWQModifier(n_grid=grid_points), rounding]
    return [rounding]


def _dataset(calibration: Calibration | None) -> dict[str, Any]:
    """The arguments of `oneshot` that bring the calibration text."""
    if calibration is None:
        return {}
    import datasets

    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in calibration.token_ids]
    return {
        "dataset": datasets.Dataset.from_list(rows),
        "max_seq_length": max(len(ids) for ids in calibration.token_ids),
        "num_calibration_samples": len(rows),
        "shuffle_calibration_samples": False,
    }


def _no_pinning_without_accelerator() -> None:
    """llm-compressor 0.14 pins host memory even where there is no accelerator to pin it for, and fails."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_args, **_kwargs: None

"""llm-compressor: AWQ's activation-aware scales, then asymmetric 4-bit round-to-nearest in groups of 128.

AWQ: Lin et al., https://arxiv.org/abs/2306.00978. The saved format is compressed-tensors, which
transformers and vLLM read.
"""

from __future__ import annotations

from pathlib import Path

from gainwatt.checkpoint import Checkpoint
from gainwatt.modeling import torch_dtype
from gainwatt.quantization.calibration import Calibration
from gainwatt.schemes import Scheme


def quantize(
    checkpoint: Checkpoint,
    scheme: Scheme,
    folder: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    calibration: Calibration,
    grid_points: int,
) -> dict[str, dict[str, float]]:
    """Quantize `checkpoint` by `scheme` and save it to `folder`.

    Returns, for each layer whose output AWQ rescaled, the mean squared output error before and after the search.
    """
    import datasets
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM

    from gainwatt.quantization.awq import KeepingAWQModifier

    _no_pinning_without_accelerator()
    # Loaded to main memory: llm-compressor brings one layer after the other to the GPU.
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        dtype=torch_dtype(dtype),
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        use_safetensors=True,
    )
    awq = KeepingAWQModifier(n_grid=grid_points)
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in calibration.token_ids]
    oneshot(
        model=model,
        dataset=datasets.Dataset.from_list(rows),
        recipe=[
            awq,
            QuantizationModifier(targets=["Linear"], scheme=scheme.options["scheme"], ignore=["lm_head"]),
        ],
        max_seq_length=max(len(ids) for ids in calibration.token_ids),
        num_calibration_samples=len(rows),
        shuffle_calibration_samples=False,
    )
    model.save_pretrained(folder, save_compressed=True)
    return awq.errors()


def _no_pinning_without_accelerator() -> None:
    """llm-compressor 0.14 pins host memory even where there is no accelerator to pin it for, and fails."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_args, **_kwargs: None

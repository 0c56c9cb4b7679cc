"""The final checkpoint: adapters merged in full precision, weights cast to the study's type, saved, compared.

Merging and unmerging adapters in bf16 during training drifts the base weights (huggingface/trl, issue 6688), so the
adapters are merged once, into a fresh fp32 copy of the base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_folder
from gainwatt.checkpoint import Checkpoint
from gainwatt.modeling import torch_dtype
from gainwatt.weight_files import weight_files

AT_ONCE = 1 << 18
"""Weights that are compared at once."""


def save_final(model: Any, tokenizer: Any, base: Checkpoint, folder: Path, *, dtype: str) -> None:
    """Save the trained weights of `model` (a transformers or peft model) to `folder` as safetensors in `dtype`."""
    if hasattr(model, "merge_and_unload"):
        model = _merged(model, base)
    model.to(torch_dtype(dtype))
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _merged(adapted: Any, base: Checkpoint) -> Any:
    """The base in fp32 on the CPU with the adapters of `adapted` merged into it."""
    import tempfile

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    fresh = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32, local_files_only=True)
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)
        return PeftModel.from_pretrained(fresh, folder).merge_and_unload()


def update_size(base: Path, trained: Path) -> dict[str, float]:
    """How far training moved the stored weights, tensor by tensor over the safetensors of two checkpoints.

    `relative_update_norm` = ||w_trained - w_base|| / ||w_base|| over all common tensors; `weights_changed_frac` = share
    of stored weights that differ at all: a small step can vanish when fp32 weights are stored in bf16.
    """
    import torch

    changed = total = 0
    moved = norm = 0.0
    old, new = _tensors(base), _tensors(trained)
    for name in sorted(old.keys() & new.keys()):
        # In parts that stay in the processor's cache: whole tensors in fp64 would wait for memory.
        parts = (tensor().reshape(-1).split(AT_ONCE) for tensor in (old[name], new[name]))
        for before, after in zip(*parts, strict=True):
            start = before.to(torch.float64)
            difference = after.to(torch.float64) - start
            changed += int(difference.count_nonzero())
            total += difference.numel()
            moved += float(difference.dot(difference))
            norm += float(start.dot(start))
    return {"relative_update_norm": (moved / norm) ** 0.5, "weights_changed_frac": changed / total}


def _tensors(folder: Path) -> dict[str, Any]:
    """Name -> function that loads the tensor, over all safetensors files of a folder."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in weight_files(folder):
        handle = safe_open(path, framework="pt")
        for name in handle.keys():  # noqa: SIM118 - a safetensors handle is not a dict
            found[name] = lambda handle=handle, name=name: handle.get_tensor(name)
    return found

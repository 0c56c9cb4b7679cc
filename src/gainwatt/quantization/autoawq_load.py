"""Loading a checkpoint in AutoAWQ's GEMM format with AutoAWQ's layers, on a GPU or a CPU.

AutoAWQ's own loader, and that of transformers 4, refuse a machine without GPU unless a further package is there; the
layers themselves run there, by dequantizing the weights at each product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.errors import InputError


def load(folder: Path, dtype: Any, device: str, *, trust_remote_code: bool) -> Any:
    """The model on `device`, its quantized layers WQLinear_GEMM. Raises InputError for tensors missing or left over."""
    from awq.modules.linear import gemm
    from transformers import AutoConfig, AutoModelForCausalLM

    if device == "cpu":
        gemm.TRITON_AVAILABLE = False  # Triton can be imported where it has no device to run on
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    settings = config.quantization_config
    del config.quantization_config  # transformers would put its own layers there
    tensors = _read(folder)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=dtype, trust_remote_code=trust_remote_code)
    for name in sorted(key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight")):
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        linear = getattr(parent, child)
        new = gemm.WQLinear_GEMM(
            settings["bits"], settings["group_size"], linear.in_features, linear.out_features,
            linear.bias is not None, "cpu",
        )  # fmt: skip
        setattr(parent, child, new)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if config.tie_word_embeddings else set()
    wrong = sorted((set(missing) - tied) | set(unexpected))
    if wrong:
        raise InputError(
            f"the AWQ checkpoint in {folder} does not fit its configuration: missing or left over are "
            f"{', '.join(wrong[:5])}",
            "quantize the checkpoint again",
        )
    model.tie_weights()
    return model.to(device)


def _read(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found

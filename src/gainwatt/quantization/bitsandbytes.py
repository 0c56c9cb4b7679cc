"""bitsandbytes: weights are quantized while they are loaded; no calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.modeling import device, dtype_option, torch_dtype
from gainwatt.quantization.made import Made
from gainwatt.schemes import Scheme


def quantize(checkpoint: Checkpoint, scheme: Scheme, folder: Path, *, dtype: str, trust_remote_code: bool) -> Made:
    """Load `checkpoint` quantized by `scheme`, computing in `dtype`, and save it to `folder`."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = dict(scheme.options)
    if options.get("load_in_4bit"):
        options["bnb_4bit_compute_dtype"] = torch_dtype(dtype)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        device_map=device(),
        quantization_config=BitsAndBytesConfig(**options),
        trust_remote_code=trust_remote_code,
        local_files_only=True,
        use_safetensors=True,
        **dtype_option(dtype),
    )
    model.save_pretrained(folder)
    return Made()

"""What must hold before a checkpoint is quantized; each check is an error before any work starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError
from gainwatt.schemes import Scheme


def check_quantizable(checkpoint: Checkpoint, scheme: Scheme) -> None:
    """Raise InputError for an already quantized checkpoint or a layer that the scheme's groups do not divide."""
    config = read_config(checkpoint.folder)
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "?")
        raise InputError(
            f"the checkpoint in {checkpoint.folder} is already quantized ({method})",
            "give the unquantized checkpoint",
        )
    if scheme.group_size is not None and scheme.calibrated:
        for name, width in linear_widths(checkpoint.folder):
            if width % scheme.group_size:
                raise InputError(
                    f"{scheme.name} groups {scheme.group_size} weights, and the input width {width} of {name} in "
                    f"{checkpoint.folder} is no multiple of that",
                    "leave this scheme out of quantize.schemes for this model",
                )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint. Raises InputError naming the file."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "give the folder of a saved model") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no JSON object", "give the folder of a saved model")
    return config


def linear_widths(folder: Path) -> list[tuple[str, int]]:
    """Name and input width of each 2-D weight inside the transformer blocks, from the safetensors headers alone."""
    from safetensors import safe_open

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - a safetensors handle is not a dict
                shape = handle.get_slice(name).get_shape()
                if len(shape) == 2 and ".layers." in name and name.endswith(".weight"):
                    found.append((name, shape[1]))
    return found

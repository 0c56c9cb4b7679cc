"""Quantized checkpoints as they lie on the disk: codes, restored weights and steps of each matrix, block by block.

What an evaluation loads is not what a quantizer would make of the weights today: these readers take the stored codes
and scales themselves. Formats that are read: bitsandbytes with 4 and 8 bits, and compressed-tensors with packed
integers, plain 8-bit integers and FP8 (the formats' own packages define them). Any other is refused by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gainwatt.errors import InputError, UnavailableError
from gainwatt.quantization.checks import read_config
from gainwatt.weights.tensors import Tensor, read_tensors


@dataclass(frozen=True)
class StoredBlock:
    """Consecutive rows of a stored matrix.

    `codes` [rows, columns] compare equal where two checkpoints store the same code (a zero of either sign is one code).
    `values` [rows, columns] are the restored weights in fp32, `steps` (the same shape, or one that broadcasts to it)
    the distance between neighbouring levels: at the value for floating-point codes, the mean over the levels for tables
    of levels.
    """

    codes: Any
    values: Any
    steps: Any


class StoredMatrix(Protocol):
    """One quantized 2-D weight; `format` names how it is stored."""

    shape: tuple[int, int]
    format: str

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1, in main memory."""


def stored_matrices(folder: Path) -> dict[str, StoredMatrix]:
    """Module name -> stored matrix, for each quantized weight of the checkpoint in `folder`.

    Raises UnavailableError naming a format that is not read here, InputError for an unquantized or damaged checkpoint.
    """
    from gainwatt.weights import stored_awq, stored_bitsandbytes, stored_compressed

    settings = read_config(folder).get("quantization_config")
    if not isinstance(settings, dict):
        gguf = sorted(folder.glob("*.gguf"))
        if gguf:
            raise _not_read("gguf", folder)
        raise InputError(f"the checkpoint in {folder} is not quantized", "give a quantized checkpoint")
    method = str(settings.get("quant_method", "?"))
    if method == "bitsandbytes":
        found = stored_bitsandbytes.matrices(read_tensors(folder))
    elif method == "compressed-tensors":
        found = stored_compressed.matrices(read_tensors(folder), settings, folder)
    elif method == "awq":
        found = stored_awq.matrices(read_tensors(folder))
    else:
        raise _not_read(method, folder)
    if not found:
        raise InputError(
            f"the {method} checkpoint in {folder} holds no quantized weight", "quantize the checkpoint again"
        )
    return found


def _not_read(name: str, folder: Path) -> UnavailableError:
    return UnavailableError(
        f"the format {name!r} of the checkpoint in {folder} is not read by the weight diagnostics",
        "they read bitsandbytes, AutoAWQ and compressed-tensors (pack-quantized, int-quantized, float-quantized)",
    )


def need(tensors: dict[str, Tensor], name: str) -> Tensor:
    """The tensor called `name`. Raises InputError naming it and the folder."""
    if name not in tensors:
        folder = next(iter(tensors.values())).path.parent if tensors else "?"
        raise InputError(f"the checkpoint in {folder} lacks the tensor {name}", "quantize the checkpoint again")
    return tensors[name]

"""AutoAWQ's GEMM format: 4-bit codes packed along the output axis, one fp16 scale and one 4-bit zero point per group.

`qweight` [input, output / 8] and `qzeros` [groups, output / 8] hold eight codes a 32-bit word, in the order that the
kernel reads them: output channels 0, 2, 4, 6, 1, 3, 5, 7 from the lowest bits up. `scales` [groups, output].
Weights are (code - zero) · scale (https://github.com/casper-hansen/AutoAWQ).
"""

from __future__ import annotations

from typing import Any

from gainwatt.errors import InputError
from gainwatt.weights.stored import StoredBlock, StoredMatrix, need
from gainwatt.weights.tensors import Tensor, read_rows

_BITS = 4
_PER_WORD = 32 // _BITS
_CHANNELS = (0, 2, 4, 6, 1, 3, 5, 7)


def matrices(tensors: dict[str, Tensor]) -> dict[str, StoredMatrix]:
    """Module name -> matrix."""
    names = [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]
    return {module: AwqMatrix(tensors, module) for module in names}


class AwqMatrix:
    """One quantized weight; its codes are kept in memory, transposed to [output, input]."""

    format = "awq-gemm int4 group"

    def __init__(self, tensors: dict[str, Tensor], module: str) -> None:
        """Raises InputError for sizes that contradict each other."""
        self._weight = need(tensors, f"{module}.qweight")
        self._zeros = need(tensors, f"{module}.qzeros")
        self._scales = need(tensors, f"{module}.scales")
        columns, words = self._weight.shape
        groups, rows = self._scales.shape
        if rows != words * _PER_WORD or self._zeros.shape != (groups, words) or columns % groups:
            raise InputError(
                f"{self._weight.name} in {self._weight.path} has the shape {[columns, words]}, and its scales "
                f"{[groups, rows]}: they do not fit",
                "quantize it again",
            )
        self.shape = (rows, columns)
        self._loaded: tuple[Any, Any, Any] | None = None

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1."""
        codes, zeros, scales = self._read()
        part = slice(first, first + count)
        size = self.shape[1] // scales.shape[1]
        steps = scales[part].repeat_interleave(size, dim=1)
        shifted = codes[part].float() - zeros[part].float().repeat_interleave(size, dim=1)
        found = StoredBlock(codes[part].int(), shifted * steps, steps)
        if part.stop >= self.shape[0]:
            self._loaded = None
        return found

    def _read(self) -> tuple[Any, Any, Any]:
        """Codes [rows, columns] and zero points [rows, groups] as bytes, scales [rows, groups] in fp32."""
        if self._loaded is None:
            self._loaded = (
                unpack(read_rows(self._weight)).T,
                unpack(read_rows(self._zeros)).T,
                read_rows(self._scales).float().T,
            )
        return self._loaded


def unpack(words: Any) -> Any:
    """int32 [n, words] as uint8 codes [n, 8 · words], in the order of the output channels."""
    import torch

    found = torch.empty((words.shape[0], words.shape[1], _PER_WORD), dtype=torch.uint8)
    for position, channel in enumerate(_CHANNELS):
        found[:, :, channel] = ((words >> (_BITS * position)) & ((1 << _BITS) - 1)).to(torch.uint8)
    return found.flatten(1)

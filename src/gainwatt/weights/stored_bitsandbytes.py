"""bitsandbytes' saved state: blocks of 4-bit codes with a table of levels, or 8-bit integers with one scale per row.

Dettmers et al., https://arxiv.org/abs/2305.14314 (4 bits) and https://arxiv.org/abs/2208.07339 (8 bits); names of the
tensors as bitsandbytes writes them (`QuantState.as_dict`, `Linear8bitLt`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gainwatt.errors import InputError
from gainwatt.weights.stored import StoredBlock, StoredMatrix, need
from gainwatt.weights.tensors import Tensor, read_rows

_STATE = ".weight.quant_state.bitsandbytes__"
_INT8_TOP = 127


def matrices(tensors: dict[str, Tensor]) -> dict[str, StoredMatrix]:
    """Module name -> matrix, for each quantized weight."""
    found: dict[str, StoredMatrix] = {}
    for name, tensor in tensors.items():
        if _STATE in name:
            module, _, kind = name.partition(_STATE)
            found[module] = FourBit(tensors, module, kind, tensor)
        elif name.endswith(".SCB"):
            module = name.removesuffix(".SCB")
            found[module] = EightBit(need(tensors, f"{module}.weight"), tensor)
    return found


class FourBit:
    """NF4 or FP4: two codes a byte, the first in the upper half; scales plain or quantized a second time."""

    def __init__(self, tensors: dict[str, Tensor], module: str, kind: str, state: Tensor) -> None:
        """Raises InputError for a state that cannot be read."""
        self.format = f"bitsandbytes {kind}"
        weight = f"{module}.weight"
        try:
            about = json.loads(read_rows(state).numpy().tobytes())
            rows, columns = about["shape"]
            self._block_size = int(about["blocksize"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {state.name} in {state.path}: {error}", "quantize it again") from error
        self.shape = (int(rows), int(columns))
        packed = need(tensors, weight)
        # Two codes a byte, whatever type the bytes are stored as (bnb_4bit_quant_storage).
        self._packed = replace(packed, dtype="U8", shape=(packed.end - packed.begin, 1))
        self._levels = read_rows(need(tensors, f"{weight}.quant_map")).float()
        # FP4 has a zero of either sign: codes that stand for the same level count as one.
        self._first_of_level = (self._levels.unsqueeze(1) == self._levels).byte().argmax(1).byte()
        self._about = about
        self._absmax = need(tensors, f"{weight}.absmax")
        self._nested = [tensors.get(f"{weight}.nested_{part}") for part in ("absmax", "quant_map")]
        self._scales: Any = None
        expected = -(-self.shape[0] * self.shape[1] // 2)
        if self._packed.end - self._packed.begin != expected:
            raise InputError(
                f"{weight} in {self._packed.path} holds {self._packed.end - self._packed.begin} bytes, not the "
                f"{expected} of {rows}x{columns} 4-bit codes",
                "quantize it again",
            )

    def scales(self) -> Any:
        """Scale of each block of the flattened weight, fp32."""
        if self._scales is None:
            absmax = read_rows(self._absmax)
            if self._nested[0] is None or self._nested[1] is None:
                self._scales = absmax.float()
            else:
                outer, table = (read_rows(tensor).float() for tensor in self._nested if tensor is not None)
                size = int(self._about["nested_blocksize"])
                spread = outer.repeat_interleave(size)[: absmax.numel()]
                self._scales = table[absmax.long()] * spread + float(self._about["nested_offset"])
        return self._scales

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1, which must begin where a block of codes begins."""
        import torch

        columns = self.shape[1]
        start, numel = first * columns, count * columns
        if start % self._block_size:
            raise ValueError(f"row {first} does not begin with a block of {self._block_size} codes")
        packed = read_rows(self._packed, start // 2, -(-numel // 2)).view(torch.uint8).view(-1)
        codes = torch.stack((packed >> 4, packed & 15), dim=1).view(-1)[:numel]
        blocks = -(-numel // self._block_size)
        scales = self.scales()[start // self._block_size :][:blocks]
        spread = scales.repeat_interleave(self._block_size)[:numel]
        values = self._levels.index_select(0, codes.int()).mul_(spread)
        span = float(self._levels.max() - self._levels.min()) / (len(self._levels) - 1)
        codes = self._first_of_level.index_select(0, codes.int())
        return StoredBlock(codes.view(-1, columns), values.view(-1, columns), (spread * span).view(-1, columns))


class EightBit:
    """INT8 with one scale per output channel: w = code · SCB / 127."""

    format = "bitsandbytes int8"

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        """Raises InputError for a weight that is no matrix."""
        if len(weight.shape) != 2 or weight.dtype != "I8":
            raise InputError(
                f"{weight.name} in {weight.path} is {weight.dtype} of shape {list(weight.shape)}, not an int8 matrix",
                "quantize it again",
            )
        self.shape = (weight.shape[0], weight.shape[1])
        self._weight = weight
        self._steps = read_rows(scales).float().view(-1, 1) / _INT8_TOP

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1."""
        codes = read_rows(self._weight, first, count)
        steps = self._steps[first : first + len(codes)]
        return StoredBlock(codes, codes.float() * steps, steps)

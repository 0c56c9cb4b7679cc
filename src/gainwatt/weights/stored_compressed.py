"""compressed-tensors' checkpoints: integers packed into 32-bit words, plain 8-bit integers, and FP8.

Format: https://github.com/vllm-project/compressed-tensors (pack-quantized, int-quantized, float-quantized). Packed
codes of b bits lie along the input axis with an offset of 2^(b-1), packed zero points along the output axis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.errors import InputError, UnavailableError
from gainwatt.weights.stored import StoredBlock, StoredMatrix, need
from gainwatt.weights.tensors import Tensor, read_rows

_WORD_BITS = 32
_FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")
_STRATEGIES = ("group", "channel", "tensor")
_FP8_MANTISSA_BITS, _FP8_BIAS = 3, 7  # E4M3
_FP8_MINUS_ZERO = 0x80


def matrices(tensors: dict[str, Tensor], settings: dict[str, Any], folder: Path) -> dict[str, StoredMatrix]:
    """Module name -> matrix. Raises UnavailableError naming a format, strategy or width that is not read."""
    groups = list(settings.get("config_groups", {}).values())
    if len(groups) != 1:
        raise UnavailableError(
            f"the compressed-tensors checkpoint in {folder} has {len(groups)} config groups; the weight diagnostics "
            "read one"
        )
    weights = groups[0]["weights"]
    form = str(groups[0].get("format") or settings.get("format"))
    strategy, bits, kind = str(weights["strategy"]), int(weights["num_bits"]), str(weights["type"])
    if form not in _FORMATS or strategy not in _STRATEGIES or (kind == "float" and bits != 8):
        raise UnavailableError(
            f"the compressed-tensors format {form!r} ({kind}{bits}, strategy {strategy!r}) of the checkpoint in "
            f"{folder} is not read by the weight diagnostics",
            f"they read {', '.join(_FORMATS)} with one scale per group, channel or tensor",
        )
    found: dict[str, StoredMatrix] = {}
    for name, scales in tensors.items():
        if name.endswith(".weight_scale"):
            module = name.removesuffix(".weight_scale")
            label = f"{form} {kind}{bits} {strategy}"
            if form == "pack-quantized":
                found[module] = Packed(tensors, module, scales, bits, weights.get("group_size"), label)
            else:
                found[module] = Plain(need(tensors, f"{module}.weight"), scales, label)
    return found


class Packed:
    """Integer codes of `bits` bits, one scale (and zero point) per group of columns."""

    def __init__(
        self, tensors: dict[str, Tensor], module: str, scales: Tensor, bits: int, group_size: int | None, label: str
    ) -> None:
        """Raises InputError for sizes that contradict each other."""
        import torch

        self.format = label
        self._bits = bits
        self._packed = need(tensors, f"{module}.weight_packed")
        rows, columns = (int(n) for n in read_rows(need(tensors, f"{module}.weight_shape")))
        self.shape = (rows, columns)
        words = -(-columns // (_WORD_BITS // bits))
        if self._packed.shape != (rows, words) or scales.shape[0] not in (1, rows):
            raise InputError(
                f"{self._packed.name} in {self._packed.path} has the shape {list(self._packed.shape)}, not "
                f"{[rows, words]}",
                "quantize it again",
            )
        self._scales = read_rows(scales).float().expand(rows, -1)
        groups = self._scales.shape[1]
        order = tensors.get(f"{module}.weight_g_idx")
        size = group_size if group_size and group_size > 0 else -(-columns // groups)
        group_of = torch.arange(columns) // size if order is None else read_rows(order).long()
        self._group_of = group_of.clamp_(0, groups - 1)
        self._zeros = self._zero_points(tensors.get(f"{module}.weight_zero_point"), rows, groups)

    def _zero_points(self, stored: Tensor | None, rows: int, groups: int) -> Any:
        import torch

        if stored is None:
            return torch.zeros((rows, groups), dtype=torch.int32)
        found = read_rows(stored)
        if found.dtype == torch.int32 and found.shape[0] != rows:
            found = self._unpack(found.T.contiguous(), rows).T
        return found.int().expand(rows, groups)

    def _unpack(self, words: Any, columns: int) -> Any:
        """int32 [rows, words] -> signed codes [rows, columns]."""
        import torch

        shifts = torch.arange(0, _WORD_BITS, self._bits, dtype=torch.int32)
        parts = (words.unsqueeze(2) >> shifts) & ((1 << self._bits) - 1)
        return parts.flatten(1)[:, :columns] - (1 << (self._bits - 1))

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1."""
        codes = self._unpack(read_rows(self._packed, first, count), self.shape[1])
        part = slice(first, first + len(codes))
        steps = self._scales[part].index_select(1, self._group_of)
        zeros = self._zeros[part].index_select(1, self._group_of)
        return StoredBlock(codes, (codes - zeros).float().mul_(steps), steps)


class Plain:
    """One code a byte: FP8 (E4M3) or int8, one scale per output channel or for the whole tensor."""

    def __init__(self, weight: Tensor, scales: Tensor, label: str) -> None:
        """Raises UnavailableError for scales of another layout."""
        if weight.dtype not in ("F8_E4M3", "I8") or len(weight.shape) != 2:
            raise UnavailableError(
                f"{weight.name} in {weight.path} is stored as {weight.dtype}, which the weight diagnostics do not read"
            )
        self.format = label
        self.shape = (weight.shape[0], weight.shape[1])
        self._weight = weight
        self._scales = read_rows(scales).float()
        if self._scales.numel() not in (1, self.shape[0]):
            raise UnavailableError(
                f"{scales.name} in {scales.path} has the shape {list(scales.shape)}; the weight diagnostics read one "
                "scale per row or per tensor"
            )
        self._scales = self._scales.reshape(-1, 1)

    def block(self, first: int, count: int) -> StoredBlock:
        """Rows first … first + count - 1."""
        import torch

        codes = read_rows(self._weight, first, count)
        scales = self._scales if len(self._scales) == 1 else self._scales[first : first + len(codes)]
        values = codes.float() * scales
        if codes.dtype == torch.int8:
            return StoredBlock(codes, values, scales)
        bits = codes.view(torch.uint8)
        exponents = ((bits >> _FP8_MANTISSA_BITS) & 15).int().clamp_(min=1) - _FP8_BIAS - _FP8_MANTISSA_BITS
        bits = bits.masked_fill(bits == _FP8_MINUS_ZERO, 0)  # the same level as zero
        return StoredBlock(bits, values, torch.ldexp(scales.expand_as(values), exponents))

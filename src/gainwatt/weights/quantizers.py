"""Two 4-bit quantizers of a weight: a symmetric proxy, and NF4 as bitsandbytes makes it.

`symmetric-w4`: round to nearest in groups along the input axis (the last one padded with zeros), scale = max|w| / 7,
codes clamped to ±7.

`bnb-nf4`: blocks of 64 consecutive weights, the 16 levels of Dettmers et al., QLoRA (https://arxiv.org/abs/2305.14314),
scales quantized a second time to 8 bits. On a GPU bitsandbytes itself encodes. Its CPU code takes 20 times as long as
counting the level midpoints below each weight, which gives the same codes.

Errors are those of scale · level in fp32, before the product is rounded to the type that a model computes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import get_scheme

SYMMETRIC = "symmetric-w4"
NF4 = "bnb-nf4"
_NF4_BLOCK = 64
_NF4_SCALE_BLOCK = 256  # block of the second quantization, fixed in bitsandbytes
_TOP_CODE = 7


@dataclass(frozen=True)
class Encoded:
    """`codes`: one per weight, padding included, comparable between two encodings. `scales`: one per group or block."""

    codes: Any
    scales: Any


@dataclass(frozen=True)
class QuantError:
    """Sum of squared errors and largest absolute error of a tensor; `max_abs` is None where it is not followed."""

    square_sum: float
    max_abs: float | None


class Errors(Protocol):
    """Adds up the error of blocks."""

    def add(self, weights: Any, encoded: Encoded) -> None:
        """Add a block: fp32 weights [rows, columns] and their encoding."""

    def result(self) -> QuantError:
        """The error of everything added."""


class Quantizer(Protocol):
    """Encodes blocks of rows."""

    name: str

    def encode(self, weights: Any) -> Encoded:
        """Codes and scales of an fp32 block [rows, columns]."""

    def errors(self, numel: int) -> Errors:
        """A new sum of errors, for a tensor of `numel` weights."""

    def step_square_sum(self, encoded: Encoded, numel: int, columns: int) -> Any:
        """Sum over weights of (distance between neighbouring levels)², as a 0-d float64 tensor."""

    def restore(self, weights: Any) -> Any:
        """What is left of a whole fp32 weight [rows, columns] after encoding and decoding."""


def quantizer(name: str, *, group_size: int) -> Quantizer:
    """The quantizer called `name`. Raises InputError for another name, UnavailableError without bitsandbytes."""
    if name == SYMMETRIC:
        return SymmetricW4(group_size)
    if name == NF4:
        return Nf4(double_quant=bool(get_scheme(NF4).options["bnb_4bit_use_double_quant"]))
    raise InputError(f"there is no weight quantizer {name!r}", f"diagnose.schemes can hold {SYMMETRIC} and {NF4}")


def grouped(weights: Any, group_size: int) -> Any:
    """[rows, columns] as [rows, groups, group_size], the last group padded with zeros."""
    import torch

    rows, columns = weights.shape
    missing = -columns % group_size
    padded = torch.nn.functional.pad(weights, (0, missing)) if missing else weights
    return padded.view(rows, -1, group_size)


class SymmetricW4:
    """Symmetric 4-bit round to nearest in groups."""

    name = SYMMETRIC

    def __init__(self, group_size: int) -> None:
        self.group_size = group_size

    def encode(self, weights: Any) -> Encoded:
        """Codes [rows, groups, group_size] as whole fp32 numbers, scales [rows, groups]; a zero group has scale 0."""
        groups = grouped(weights, self.group_size)
        scales = groups.abs().amax(2) / _TOP_CODE
        divisor = scales.masked_fill(scales == 0, 1.0).unsqueeze(2)
        codes = (groups / divisor).round_().clamp_(-_TOP_CODE, _TOP_CODE)
        return Encoded(codes, scales)

    def errors(self, numel: int) -> SymmetricErrors:
        """A new sum of errors; needs the same memory for every `numel`."""
        return SymmetricErrors(self.group_size)

    def step_square_sum(self, encoded: Encoded, numel: int, columns: int) -> Any:
        """Sum over weights (padding left out) of scale²."""
        import torch

        sizes = torch.full((encoded.scales.shape[1],), float(self.group_size), dtype=torch.float64)
        sizes[-1] -= -columns % self.group_size
        return encoded.scales.double().square().sum(0) @ sizes.to(encoded.scales.device)

    def restore(self, weights: Any) -> Any:
        """Code · scale."""
        encoded = self.encode(weights)
        return (encoded.codes * encoded.scales.unsqueeze(2)).flatten(1)[:, : weights.shape[1]]


class SymmetricErrors:
    """Sum of squared errors and largest error of the symmetric quantizer."""

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self._square_sum: Any = 0.0
        self._max: Any = None

    def add(self, weights: Any, encoded: Encoded) -> None:
        """Add a block."""
        import torch

        error = encoded.codes * encoded.scales.unsqueeze(2)
        flat = error.sub_(grouped(weights, self._group_size)).view(-1)
        self._square_sum = self._square_sum + torch.dot(flat, flat).double()
        low, high = torch.aminmax(flat)
        largest = torch.maximum(high, -low)
        self._max = largest if self._max is None else torch.maximum(self._max, largest)

    def result(self) -> QuantError:
        """Of everything added."""
        return QuantError(float(self._square_sum), float(self._max))


class Nf4:
    """NF4 with blocks of 64."""

    name = NF4

    def __init__(self, *, double_quant: bool) -> None:
        try:
            from bitsandbytes import functional
        except ImportError as error:
            raise UnavailableError(
                f"the quantizer {NF4} needs bitsandbytes: {error}",
                "install it (make env NAME=core) or take bnb-nf4 out of diagnose.schemes",
            ) from error
        self.functional = functional
        self.double_quant = double_quant
        self._tables: dict[str, Any] = {}

    def levels(self, device: Any) -> Any:
        """The 16 levels, ascending, fp32."""
        if str(device) not in self._tables:
            self._tables[str(device)] = self.functional.get_4bit_type("nf4", device=str(device)).float()
        return self._tables[str(device)]

    def encode(self, weights: Any) -> Encoded:
        """Codes [blocks, 64] (uint8) of the flattened block, padded with zeros, and scales [blocks]: max|w|."""
        import torch

        if weights.is_cuda:
            packed, state = self.functional.quantize_4bit(weights, blocksize=_NF4_BLOCK, quant_type="nf4")
            codes = torch.stack((packed.view(-1) >> 4, packed.view(-1) & 15), dim=1).view(-1)
            return Encoded(_pad(codes[: weights.numel()], 7).view(-1, _NF4_BLOCK), state.absmax)
        flat = weights.reshape(-1)
        blocks = _pad(flat, 0.0).view(-1, _NF4_BLOCK)
        scales = blocks.abs().amax(1)
        divisor = scales.clamp(min=1e-38)
        scaled = blocks * (1.0 / divisor).unsqueeze(1)
        if flat.numel() % _NF4_BLOCK:
            scaled[-1] = blocks[-1] / divisor[-1]  # as bitsandbytes treats an incomplete block
        return Encoded(self._count_midpoints_below(scaled), scales)

    def _count_midpoints_below(self, scaled: Any) -> Any:
        """Codes of weights in [-1, 1]. numpy, because it compares with SIMD and torch does not."""
        import numpy as np
        import torch

        levels = self.levels("cpu").numpy()
        values = scaled.numpy()
        codes = np.zeros(values.shape, dtype=np.uint8)
        above = np.empty(values.shape, dtype=np.bool_)
        for midpoint in (levels[:-1] + levels[1:]) / 2:
            np.greater(values, midpoint, out=above)
            codes += above.view(np.uint8)
        return torch.from_numpy(codes)

    def errors(self, numel: int) -> Nf4Errors:
        """A new sum of errors, for a tensor of `numel` weights: 16 bytes for each block of 64."""
        return Nf4Errors(self, -(-numel // _NF4_BLOCK))

    def step_square_sum(self, encoded: Encoded, numel: int, columns: int) -> Any:
        """Sum over weights of (2 max|w| / 15)²: the mean distance between NF4's levels."""
        squares = (encoded.scales.double() * (2 / 15)).square()
        missing = encoded.scales.numel() * _NF4_BLOCK - numel
        return squares.sum() * _NF4_BLOCK - squares[-1] * missing

    def restore(self, weights: Any) -> Any:
        """Level · scale, the scale after its second quantization."""
        encoded = self.encode(weights)
        scales = self.requantized(encoded.scales) if self.double_quant else encoded.scales
        restored = self.decoded(encoded.codes) * scales.unsqueeze(1)
        return restored.view(-1)[: weights.numel()].view_as(weights)

    def decoded(self, codes: Any) -> Any:
        """Levels of codes [blocks, 64], fp32."""
        return self.levels(codes.device).index_select(0, codes.reshape(-1).int()).view(-1, _NF4_BLOCK)

    def requantized(self, scales: Any) -> Any:
        """All scales of a tensor after the second quantization: to 8 bits, around their mean."""
        offset = scales.mean()
        codes, state = self.functional.quantize_blockwise(scales - offset, blocksize=_NF4_SCALE_BLOCK)
        return self.functional.dequantize_blockwise(codes, state) + offset


class Nf4Errors:
    """Sum of squared NF4 errors, with the second quantization of the scales.

    That one needs all scales of a tensor (it subtracts their mean), so each block leaves three sums: with e the error
    at the exact scale, d the later change of the scale and q the level, Σ(e + d q)² = Σe² + 2 d Σe q + d² Σq².
    """

    def __init__(self, quantizer: Nf4, blocks: int) -> None:
        import torch

        self._quantizer = quantizer
        self._filled = 0
        # One array for the whole tensor: small results kept between large temporaries would fragment the heap.
        self._sums = torch.empty((4, blocks), dtype=torch.float32)

    def add(self, weights: Any, encoded: Encoded) -> None:
        """Add a block."""
        levels = self._quantizer.decoded(encoded.codes)
        target = _pad(weights.reshape(-1), 0.0).view(-1, _NF4_BLOCK)
        error = (levels * encoded.scales.unsqueeze(1)).sub_(target)
        part = self._sums[:, self._filled : self._filled + len(levels)]
        self._filled += len(levels)
        found = (encoded.scales, (error * error).sum(1), (error * levels).sum(1), levels.square_().sum(1))
        for row, values in zip(part, found, strict=True):
            row.copy_(values)

    def result(self) -> QuantError:
        """Of everything added."""
        scales, *sums = self._sums[:, : self._filled]
        square, cross, level_square = (row.double() for row in sums)
        if not self._quantizer.double_quant:
            return QuantError(float(square.sum()), None)
        change = self._quantizer.requantized(scales).double() - scales.double()
        return QuantError(float((square + 2 * change * cross + change.square() * level_square).sum()), None)


def _pad(flat: Any, value: float) -> Any:
    import torch

    missing = -flat.numel() % _NF4_BLOCK
    return torch.nn.functional.pad(flat, (0, missing), value=value) if missing else flat

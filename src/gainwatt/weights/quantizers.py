"""Quantizers of a weight that look at nothing but the weight: the symmetric proxy, and what makes the others.

`symmetric-w4`: round to nearest in groups along the input axis (the last one padded with zeros), scale = max|w| / 7,
codes clamped to ±7. `bnb-nf4` and `bnb-fp4`: see `levels`. `bnb-int8` and `fp8`: see `rowwise`.

Errors are those of scale · level in fp32, before the product is rounded to the type that a model computes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme

SYMMETRIC = "symmetric-w4"
NF4 = "bnb-nf4"
FP4 = "bnb-fp4"
INT8 = "bnb-int8"
FP8 = "fp8"
QUANTIZERS = (SYMMETRIC, NF4, FP4, INT8, FP8)
_TOP_CODE = 7


@dataclass(frozen=True)
class Encoded:
    """`codes`: one number per weight, padding included, that differ between two encodings where the codes do (the code
    itself, or the level that it stands for). `scales`: one per group, block or row.
    """

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
    from gainwatt.weights.levels import BlockLevels
    from gainwatt.weights.rowwise import RowWise

    if name == SYMMETRIC:
        return SymmetricW4(group_size)
    if name in (NF4, FP4):
        return BlockLevels(name, double_quant=bool(get_scheme(name).options["bnb_4bit_use_double_quant"]))
    if name in (INT8, FP8):
        return RowWise(name)
    raise InputError(f"there is no weight quantizer {name!r}", f"diagnose.schemes can hold {', '.join(QUANTIZERS)}")


def divided(values: Any, by: float) -> Any:
    """`values` / `by`, correctly rounded on every device.

    By a plain number torch multiplies with its reciprocal on a GPU, which can be off by the last bit. A weight halfway
    between two codes then falls to the other side (at bf16 max|w| / 2 is exactly 3.5 steps of the symmetric proxy).
    """
    return values / values.new_full((), by)


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
        scales = divided(groups.abs().amax(2), _TOP_CODE)
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

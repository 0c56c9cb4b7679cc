"""Eight bits with one scale per output channel: INT8 as bitsandbytes stores it, FP8 (E4M3) as compressed-tensors does.

INT8: Dettmers et al., https://arxiv.org/abs/2208.07339, scale max|w| / 127 (its threshold concerns activations, not the
stored weights). FP8: Micikevicius et al., https://arxiv.org/abs/2209.05433, scale max|w| / 448.
"""

from __future__ import annotations

from typing import Any

from gainwatt.weights.quantizers import INT8, Encoded, QuantError, divided

_TOP_INT8 = 127.0
_TOP_FP8 = 448.0
_MANTISSA_BITS, _LOWEST_EXPONENT = 3, -6


class RowWise:
    """`bnb-int8` or `fp8`. A block must hold whole rows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, weights: Any) -> Encoded:
        """Codes [rows, columns] as fp32 numbers, scales [rows]; a zero row has scale 0."""
        import torch

        scales = divided(weights.abs().amax(1), _TOP_INT8 if self.name == INT8 else _TOP_FP8)
        codes = weights / scales.masked_fill(scales == 0, 1.0).unsqueeze(1)
        if self.name == INT8:
            return Encoded(codes.round_(), scales)
        return Encoded(codes.clamp_(-_TOP_FP8, _TOP_FP8).to(torch.float8_e4m3fn).float(), scales)

    def errors(self, numel: int) -> RowErrors:
        """A new sum of errors; needs the same memory for every `numel`."""
        return RowErrors()

    def step_square_sum(self, encoded: Encoded, numel: int, columns: int) -> Any:
        """Sum over weights of the squared distance to the next code: of FP8, at the size of the weight."""
        import torch

        squares = encoded.scales.double().square()
        if self.name == INT8:
            return squares.sum() * columns
        exponents = torch.frexp(encoded.codes).exponent - 1  # frexp's mantissa lies in [0.5, 1)
        exponents = exponents.masked_fill(encoded.codes == 0, _LOWEST_EXPONENT).clamp(min=_LOWEST_EXPONENT)
        steps = torch.ldexp(torch.ones_like(encoded.codes), exponents - _MANTISSA_BITS)
        return steps.double().square().sum(1) @ squares

    def restore(self, weights: Any) -> Any:
        """Code · scale."""
        encoded = self.encode(weights)
        return encoded.codes * encoded.scales.unsqueeze(1)


class RowErrors:
    """Sum of squared errors and largest error."""

    def __init__(self) -> None:
        self._square_sum: Any = 0.0
        self._max: Any = None

    def add(self, weights: Any, encoded: Encoded) -> None:
        """Add a block."""
        import torch

        flat = (encoded.codes * encoded.scales.unsqueeze(1)).sub_(weights).view(-1)
        self._square_sum = self._square_sum + torch.dot(flat, flat).double()
        low, high = torch.aminmax(flat)
        largest = torch.maximum(high, -low)
        self._max = largest if self._max is None else torch.maximum(self._max, largest)

    def result(self) -> QuantError:
        """Of everything added."""
        return QuantError(float(self._square_sum), float(self._max))

"""NF4 and FP4 as bitsandbytes makes them: blocks of 64 consecutive weights, 16 levels times the block's max|w|.

Levels of NF4: Dettmers et al., QLoRA (https://arxiv.org/abs/2305.14314), whose scales may be quantized a second time
to 8 bits. A weight gets the nearest level; bitsandbytes compares it with the midpoints between the levels, one by
one, and on the CPU it takes 20 times as long as this: a table of 65,536 entries gives the level of x in [-1, 1], and
only where an entry's interval holds a midpoint are the midpoints compared. The levels are the same.
"""

from __future__ import annotations

from typing import Any

from gainwatt.errors import UnavailableError
from gainwatt.weights.quantizers import Encoded, QuantError

BLOCK = 64
_SCALE_BLOCK = 256  # block of the second quantization, fixed in bitsandbytes
_ENTRIES = 1 << 16
_HALF = _ENTRIES / 2
_BLOCKS_AT_ONCE = 1 << 14
_TABLES: dict[tuple[str, str], Any] = {}  # by quantizer and device; made once for all tensors


class BlockLevels:
    """NF4 (`bnb-nf4`) or FP4 (`bnb-fp4`) with blocks of 64."""

    def __init__(self, name: str, *, double_quant: bool) -> None:
        try:
            from bitsandbytes import functional
        except ImportError as error:
            raise UnavailableError(
                f"the quantizer {name} needs bitsandbytes: {error}",
                f"install it (make env NAME=core) or take {name} out of diagnose.schemes",
            ) from error
        self.name = name
        self.functional = functional
        self.double_quant = double_quant
        levels = functional.get_4bit_type(name.removeprefix("bnb-"), device="cpu").float()
        self._levels = levels.sort().values.unique()  # FP4 has a zero of either sign
        self._midpoints = (self._levels[:-1] + self._levels[1:]) / 2

    def levels(self) -> Any:
        """The levels, ascending, fp32."""
        return self._levels

    def encode(self, weights: Any) -> Encoded:
        """Levels [blocks, 64] (fp32) of the flattened block, padded with zeros, and scales [blocks]: max|w|."""
        import torch

        flat = weights.reshape(-1)
        blocks = _pad(flat).view(-1, BLOCK)
        scales = blocks.abs().amax(1)
        if not bool(torch.isfinite(scales).all()):  # the distribution names the tensor; no table has a place for it
            return Encoded(torch.full_like(blocks, torch.nan), scales)
        divisor = scales.clamp(min=1e-38)
        scaled = blocks * (1.0 / divisor).unsqueeze(1)
        if flat.numel() % BLOCK:
            scaled[-1] = blocks[-1] / divisor[-1]  # as bitsandbytes treats an incomplete block
        return Encoded(self._nearest(scaled), scales)

    def _nearest(self, scaled: Any) -> Any:
        import torch

        table = self._table(scaled.device)
        places = torch.mul(scaled, _HALF).add_(_HALF + 0.5).to(torch.int32).view(-1)
        found = table.index_select(0, places)
        unsure = _not_numbers(found)
        if len(unsure):
            below = torch.bucketize(scaled.view(-1)[unsure], self._midpoints.to(scaled.device))
            found[unsure] = self._levels.to(scaled.device)[below]
        return found.view(-1, BLOCK)

    def _table(self, device: Any) -> Any:
        """Level of each interval, not a number where a midpoint lies in it or beside it; one entry more at each end."""
        import torch

        key = (self.name, str(device))
        if key not in _TABLES:
            places = torch.arange(_ENTRIES + 2, dtype=torch.float64)
            centres = (places / _HALF - 1).float()
            table = self._levels[torch.bucketize(centres, self._midpoints)]
            for midpoint in self._midpoints.double():
                near = (places / _HALF - 1 - midpoint).abs() <= 2 / _HALF
                table[near] = torch.nan
            _TABLES[key] = table.to(device)
        return _TABLES[key]

    def errors(self, numel: int) -> LevelErrors:
        """A new sum of errors, for a tensor of `numel` weights: 16 bytes for each block of 64."""
        return LevelErrors(self, -(-numel // BLOCK))

    def step_square_sum(self, encoded: Encoded, numel: int, columns: int) -> Any:
        """Sum over weights of (2 max|w| / 15)²: the mean distance between 16 levels."""
        squares = (encoded.scales.double() * (2 / 15)).square()
        missing = encoded.scales.numel() * BLOCK - numel
        return squares.sum() * BLOCK - squares[-1] * missing

    def restore(self, weights: Any) -> Any:
        """Level · scale, the scale after its second quantization."""
        encoded = self.encode(weights)
        scales = self.requantized(encoded.scales) if self.double_quant else encoded.scales
        return (encoded.codes * scales.unsqueeze(1)).view(-1)[: weights.numel()].view_as(weights)

    def requantized(self, scales: Any) -> Any:
        """All scales of a tensor after the second quantization: to 8 bits, around their mean."""
        offset = scales.mean()
        codes, state = self.functional.quantize_blockwise(scales - offset, blocksize=_SCALE_BLOCK)
        return self.functional.dequantize_blockwise(codes, state) + offset


class LevelErrors:
    """Sum of squared errors, with the second quantization of the scales.

    That one needs all scales of a tensor (it subtracts their mean), so each block leaves three sums. With s the exact
    scale, d its later change and q the level, the error is e + d q with e = s q - w, and

        Σ(e + d q)² = Σe² + 2 d Σe q + d² Σq².
    """

    def __init__(self, quantizer: BlockLevels, blocks: int) -> None:
        import torch

        self._quantizer = quantizer
        self._filled = 0
        # One array for the whole tensor: small results kept between large temporaries would fragment the heap.
        self._sums = torch.empty((4, blocks), dtype=torch.float32)
        self._ones: Any = None

    def add(self, weights: Any, encoded: Encoded) -> None:
        """Add a block."""
        import torch

        levels, scales = encoded.codes, encoded.scales
        if self._ones is None:
            self._ones = torch.ones(BLOCK, device=levels.device)
        error = (levels * scales.unsqueeze(1)).sub_(_pad(weights.reshape(-1)).view(-1, BLOCK))
        part = self._sums[:, self._filled : self._filled + len(levels)]
        self._filled += len(levels)
        part[0].copy_(scales)
        buffer = torch.empty_like(error)
        # A matrix times ones sums rows faster than `sum` does.
        for row, (one, two) in enumerate(((error, error), (error, levels), (levels, levels)), start=1):
            part[row].copy_(torch.mul(one, two, out=buffer) @ self._ones)

    def result(self) -> QuantError:
        """Of everything added."""
        scales = self._sums[0, : self._filled]
        changed = self._quantizer.requantized(scales) if self._quantizer.double_quant else scales
        total = 0.0
        for first in range(0, self._filled, _BLOCKS_AT_ONCE):
            part = slice(first, min(first + _BLOCKS_AT_ONCE, self._filled))
            square, cross, level_square = self._sums[1:, part].double()
            change = changed[part].double() - scales[part].double()
            total += float((square + 2 * change * cross + change.square() * level_square).sum())
        return QuantError(total, None)


def _not_numbers(values: Any) -> Any:
    """Where they are. numpy on the CPU: it compares with SIMD."""
    import numpy as np
    import torch

    if values.is_cuda:
        return torch.isnan(values).nonzero().view(-1)
    return torch.from_numpy(np.flatnonzero(np.isnan(values.numpy())))


def _pad(flat: Any) -> Any:
    import torch

    missing = -flat.numel() % BLOCK
    return torch.nn.functional.pad(flat, (0, missing)) if missing else flat

"""A control for code flips: random noise as large as what training changed, tensor by tensor, stored in the same type.

Training that moves weights no farther than noise of the same norm does, but flips more (or fewer) codes, moved them in
directions that the quantizer sees more (or less).

A 16-bit type's own steps are larger than what training at a small rate changes: most weights stay, and a few move by a
whole step of the type. That alone flips fewer codes than a change of the same norm that moves every weight a little. So
the noise is rounded to the stored type as the training's change was, and made as much larger or smaller beforehand as
it takes for the rounded noise to have the norm of the training's change.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from typing import Any

from gainwatt.weights.tensors import Tensor, read_rows, row_blocks

SEED = 0
_POOL = 1 << 21
_SAMPLE, _PLACES = 1 << 19, 16
_WIDEST, _HALVINGS = math.log(64), 13  # to a thousandth


class Noise:
    """Normal noise with the expected squared norm `update_sq` over the tensor `base`, once it is stored in its type.

    Seeded by the tensor's name, so that every run draws the same on the same device. On a CPU, where a normal number
    takes as long as encoding a weight, blocks are cut at random places from one pool of two million numbers: what noise
    meets which weight is random all the same.
    """

    def __init__(self, base: Tensor, update_sq: float, device: str) -> None:
        import torch

        self._device = device
        self._generator = torch.Generator(device).manual_seed(SEED + zlib.crc32(base.name.encode()))
        self._dtype = getattr(torch, base.torch_name)
        self._rms = math.sqrt(update_sq / base.numel)
        if self._dtype != torch.float32 and self._rms > 0:
            self._rms = _rms_before_rounding(_sample(base), self._rms, self._dtype)

    def added_to(self, weights: Any) -> Any:
        """The fp32 block with noise, rounded to the stored type."""
        import torch

        return torch.add(weights, self._draw(weights), alpha=self._rms).to(self._dtype).float()

    def _draw(self, weights: Any) -> Any:
        import torch

        count = weights.numel()
        if self._device != "cpu" or count > _POOL // 2:
            return torch.empty_like(weights).normal_(0.0, 1.0, generator=self._generator)
        start = int(torch.randint(_POOL - count + 1, (), generator=self._generator))
        return _pool()[start : start + count].view_as(weights)


@cache
def _pool() -> Any:
    import torch

    return torch.empty(_POOL).normal_(0.0, 1.0, generator=torch.Generator().manual_seed(SEED))


def _sample(tensor: Tensor) -> Any:
    """Some 2^19 weights from rows all over a matrix, in fp32 and in main memory: the same on every device."""
    import torch

    rows, columns = tensor.shape
    count = max(1, _SAMPLE // _PLACES // columns)
    if rows <= count * _PLACES:
        return read_rows(tensor).float().reshape(-1)
    starts = [place * (rows - count) // (_PLACES - 1) for place in range(_PLACES)]
    return torch.cat([read_rows(tensor, first, count) for first in starts]).float().reshape(-1)


def _rms_before_rounding(weights: Any, wanted: float, dtype: Any) -> float:
    """What the noise's root mean square must be so that it is `wanted` after rounding weight plus noise to `dtype`.

    It grows with the noise, so that halving the interval finds it. A change of so few weights that none of the sample
    moves is met only as nearly as that; `random_norm_ratio` says how nearly.
    """
    import torch

    noise = torch.empty_like(weights).normal_(0.0, 1.0, generator=torch.Generator().manual_seed(SEED))

    def stored(rms: float) -> float:
        moved = torch.add(weights, noise, alpha=rms).to(dtype).float().sub_(weights)
        return math.sqrt(float(moved.square_().mean()))

    low, high = math.log(wanted) - _WIDEST, math.log(wanted) + _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if stored(math.exp(middle)) < wanted else (low, middle)
    return math.exp((low + high) / 2)


def update_square_sum(trained: Tensor, base: Tensor, *, elements: int, device: str) -> float:
    """‖Δw‖² of one tensor, in a pass of its own."""
    import torch

    total: Any = 0.0
    blocks = (row_blocks(tensor, elements=elements, device=device) for tensor in (trained, base))
    for one, two in zip(*blocks, strict=True):
        difference = (one.float() - two.float()).view(-1)
        total = total + torch.dot(difference, difference).double()
    return float(total)

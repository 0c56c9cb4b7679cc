"""A control for code flips: random noise as large as what training changed, tensor by tensor.

Training that moves weights no farther than noise of the same norm does, but flips more (or fewer) codes, moved them in
directions that the quantizer sees more (or less). The noise is added in fp32 and not rounded to the stored type: the
rounding would remove most of a change that is smaller than the type's own steps, and with it the equal norm.
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from typing import Any

from gainwatt.weights.tensors import Tensor, row_blocks

SEED = 0
_POOL = 1 << 21


class Noise:
    """Normal noise with the expected squared norm `update_sq` over a tensor of `numel` weights.

    Seeded by the tensor's name, so that every run draws the same on the same device. On a CPU, where a normal number
    takes as long as encoding a weight, blocks are cut at random places from one pool of two million numbers: what noise
    meets which weight is random all the same.
    """

    def __init__(self, name: str, update_sq: float, numel: int, device: str) -> None:
        import torch

        self._rms = math.sqrt(update_sq / numel)
        self._device = device
        self._generator = torch.Generator(device).manual_seed(SEED + zlib.crc32(name.encode()))

    def added_to(self, weights: Any) -> Any:
        """The fp32 block with noise."""
        import torch

        return torch.add(weights, self._draw(weights), alpha=self._rms)

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


def update_square_sum(trained: Tensor, base: Tensor, *, elements: int, device: str) -> float:
    """‖Δw‖² of one tensor, in a pass of its own."""
    import torch

    total: Any = 0.0
    blocks = (row_blocks(tensor, elements=elements, device=device) for tensor in (trained, base))
    for one, two in zip(*blocks, strict=True):
        difference = (one.float() - two.float()).view(-1)
        total = total + torch.dot(difference, difference).double()
    return float(total)

"""A control for code flips: random noise as large as what training changed, tensor by tensor.

Training that moves weights no farther than noise of the same norm does, but flips more (or fewer) codes, moved them in
directions that the quantizer sees more (or less). The noise is added in fp32 and not rounded to the stored type: the
rounding would remove most of a change that is smaller than the type's own steps, and with it the equal norm.
"""

from __future__ import annotations

import math
import zlib

from gainwatt.weights.quantizers import Quantizer
from gainwatt.weights.tensors import Tensor, row_blocks
from gainwatt.weights.update import count_differing

SEED = 0


def random_flips(
    base: Tensor, update_sq: float, quantizers: list[Quantizer], *, elements: int, device: str
) -> dict[str, float]:
    """Codes of `base` that flip under normal noise with the expected squared norm `update_sq`, by quantizer.

    The noise is seeded by the tensor's name, so that every run draws the same on the same device. Keys are
    `random_flips.<quantizer>`.
    """
    import torch

    generator = torch.Generator(device).manual_seed(SEED + zlib.crc32(base.name.encode()))
    rms = math.sqrt(update_sq / base.numel)
    flips = {q.name: 0 for q in quantizers}
    for block in row_blocks(base, elements=elements, device=device):
        weights = block.float()
        noise = torch.empty_like(weights).normal_(0.0, 1.0, generator=generator)
        moved = torch.add(weights, noise, alpha=rms)
        for quantizer in quantizers:
            before, after = quantizer.encode(weights), quantizer.encode(moved)
            flips[quantizer.name] += count_differing(before.codes, after.codes)
    return {f"random_flips.{name}": float(count) for name, count in flips.items()}

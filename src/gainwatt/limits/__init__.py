"""What a machine and a model's shape allow at best: the roofs that measured speeds stand beside.

`shape` counts a model's parameters, bytes and operations from its files, `device` measures the machine's bandwidth,
arithmetic and cost of a launch, `share` turns both into roofs, shares of them and the regime that a cell is in.
Importing this package needs only the standard library.
"""

from __future__ import annotations

from gainwatt.limits.device import DeviceLimits, measure_limits
from gainwatt.limits.shape import ModelShape
from gainwatt.limits.share import Roof, decode_roof, decode_roof_tok_s, prefill_roof_tok_s, regime, share

__all__ = [
    "DeviceLimits",
    "ModelShape",
    "Roof",
    "decode_roof",
    "decode_roof_tok_s",
    "measure_limits",
    "prefill_roof_tok_s",
    "regime",
    "share",
]

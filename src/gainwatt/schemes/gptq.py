"""GPTQ: symmetric 4-bit groups of 128, rounded column by column so that the layer's output on calibration text stays.

Frantar et al., https://arxiv.org/abs/2210.17323.
"""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

GROUP = 128

SCHEMES = (
    Scheme(
        "gptq-w4g128",
        "llmcompressor",
        4,
        (
            Loader("transformers", "core", kernel="decompressed at the first forward pass, then torch's product"),
            Loader("vllm", "vllm", cpu=False, capability=(7, 5), kernel="Machete from 9.0 on, else Marlin"),
        ),
        bits_per_weight=4 + 16 / GROUP,
        calibrated=True,
        group_size=GROUP,
        whole_groups=True,
        options={"algorithm": "gptq", "scheme": "W4A16"},
    ),
)

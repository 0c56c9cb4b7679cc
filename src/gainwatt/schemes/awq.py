"""AWQ: scales found on calibration text protect the channels that matter, then 4-bit groups of 128 with zero points.

Lin et al., https://arxiv.org/abs/2306.00978. Two tools make it, and their checkpoints differ in more than the file
format: AutoAWQ also searches for a clipping range, llm-compressor does not. Both can stand in one matrix.
"""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

GROUP = 128
_BITS = 4 + (16 + 4) / GROUP  # a 16-bit scale and a 4-bit zero point per group

SCHEMES = (
    Scheme(
        "awq-w4g128",
        "llmcompressor",
        4,
        (
            Loader("transformers", "core", kernel="decompressed at the first forward pass, then torch's product"),
            Loader("vllm", "vllm", cpu=False, capability=(7, 5), kernel="Machete from 9.0 on, else Marlin"),
        ),
        bits_per_weight=_BITS,
        calibrated=True,
        group_size=GROUP,
        whole_groups=True,
        options={"algorithm": "awq", "scheme": "W4A16_ASYM"},
    ),
    Scheme(
        "awq-w4g128-autoawq",
        "autoawq",
        4,
        (
            Loader(
                "transformers", "autoawq", kernel="WQLinear_GEMM: Triton on a GPU, else dequantized at each product"
            ),
            Loader("vllm", "vllm", cpu=False, capability=(7, 5), kernel="awq_marlin where the layer's shape allows it"),
        ),
        bits_per_weight=_BITS,
        compute_dtype="fp16",
        calibrated=True,
        environment="autoawq",
        group_size=GROUP,
        whole_groups=True,
        options={"w_bit": 4, "q_group_size": GROUP, "zero_point": True, "version": "GEMM"},
    ),
)

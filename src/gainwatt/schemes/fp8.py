"""FP8: weights as 8-bit floats (4 exponent, 3 mantissa bits) with one scale per row, activations scaled per token.

The checkpoint is compressed-tensors' FP8_DYNAMIC, https://docs.vllm.ai/projects/llm-compressor. FP8 tensor cores exist
from compute capability 8.9 on; below that vLLM multiplies the 8-bit weights in 16 bits, and transformers does so
everywhere: what an FP8 row measures is told by the kernel that ran.
"""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

SCHEMES = (
    Scheme(
        "fp8",
        "llmcompressor",
        8,
        (
            Loader(
                "transformers", "core", kernel="decompressed at the first forward pass: weights in FP8 precision only"
            ),
            Loader(
                "vllm", "vllm", cpu=False, capability=(7, 5), kernel="FP8 tensor cores from 8.9 on, else Marlin W8A16"
            ),
        ),
        bits_per_weight=8,
        options={"algorithm": "rtn", "scheme": "FP8_DYNAMIC"},
    ),
)

"""GGUF: llama.cpp's block formats. No calibration: rounded block by block.

`q4_0` and `q8_0`: blocks of 32 with one 16-bit scale. `q2_k` and `q4_k_m`: blocks of 256 in sub-blocks with scales and
minima of their own; a tensor whose width 256 does not divide falls back to a format with blocks of 32, and some
tensors get more bits on purpose (https://github.com/ggml-org/llama.cpp). The record counts what each tensor got.
"""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

_LOADERS = (Loader("llamacpp", "llamacpp", kernel="llama.cpp: dot products of quantized blocks with int8 activations"),)


def _scheme(name: str, bits: int, bits_per_weight: float, block: int, *, file_type: str, block_type: str) -> Scheme:
    return Scheme(
        name,
        "llamacpp",
        bits,
        _LOADERS,
        bits_per_weight=bits_per_weight,
        environment="llamacpp",
        group_size=block,
        whole_groups=block == 32,
        options={"file_type": file_type, "block_type": block_type},
    )


# Bits per weight are those of the block type that names the scheme: bytes of a block x 8 / weights of a block.
SCHEMES = (
    _scheme("gguf-q2_k", 2, 84 * 8 / 256, 256, file_type="MOSTLY_Q2_K", block_type="Q2_K"),
    _scheme("gguf-q4_0", 4, 18 * 8 / 32, 32, file_type="MOSTLY_Q4_0", block_type="Q4_0"),
    _scheme("gguf-q4_k_m", 4, 144 * 8 / 256, 256, file_type="MOSTLY_Q4_K_M", block_type="Q4_K"),
    _scheme("gguf-q8_0", 8, 34 * 8 / 32, 32, file_type="MOSTLY_Q8_0", block_type="Q8_0"),
)

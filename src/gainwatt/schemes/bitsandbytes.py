"""bitsandbytes: 4-bit levels in blocks of 64 weights, or 8-bit integers with one scale per row. No calibration.

NF4, FP4 and double quantization: Dettmers et al., QLoRA, https://arxiv.org/abs/2305.14314. INT8: Dettmers et al.,
LLM.int8(), https://arxiv.org/abs/2208.07339; activations above the threshold are multiplied in 16 bits, 0 switches
that off and leaves pure 8-bit products.
"""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

BLOCK = 64
_SCALE_BLOCK = 256  # block of the second quantization, fixed in bitsandbytes
_SINGLE_BITS = 4 + 32 / BLOCK
_DOUBLE_BITS = 4 + 8 / BLOCK + 32 / (BLOCK * _SCALE_BLOCK)

_FOUR_BIT = (
    Loader(
        "transformers", "core", kernel="Linear4bit: fused at batch 1 on a GPU, else dequantized, then torch's product"
    ),
    Loader("vllm", "vllm", cpu=False, capability=(7, 0), kernel="bitsandbytes' own; gone from vLLM 0.32 on"),
)
_EIGHT_BIT = (
    Loader(
        "transformers", "core", capability=(7, 5), kernel="Linear8bitLt: int8 product; activations are cast to fp16"
    ),
)


def _four_bit(name: str, levels: str, *, double: bool) -> Scheme:
    options: dict[str, object] = {
        "load_in_4bit": True, "bnb_4bit_quant_type": levels, "bnb_4bit_use_double_quant": double,
    }  # fmt: skip
    bits = _DOUBLE_BITS if double else _SINGLE_BITS
    return Scheme(name, "bitsandbytes", 4, _FOUR_BIT, bits_per_weight=bits, group_size=BLOCK, options=options)


def _eight_bit(name: str, threshold: float) -> Scheme:
    options: dict[str, object] = {"load_in_8bit": True, "llm_int8_threshold": threshold}
    return Scheme(name, "bitsandbytes", 8, _EIGHT_BIT, bits_per_weight=8, options=options)


SCHEMES = (
    _four_bit("bnb-nf4", "nf4", double=True),
    _four_bit("bnb-nf4-single", "nf4", double=False),
    _four_bit("bnb-fp4", "fp4", double=True),
    _eight_bit("bnb-int8", 6.0),
    _eight_bit("bnb-int8-pure", 0.0),
)

"""The quantization types of GGUF files that llama.cpp makes without calibration data. Standard library only.

Types of fewer bits (IQ1 to IQ3) need an importance matrix and are loaded from files, never made here. Source of names
and blocks: https://github.com/ggml-org/llama.cpp (llama.h, ggml-common.h).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GgufType:
    """`file_type`: llama.cpp's name for the whole file; `blocks`: types of which at least one matrix must be;
    `bits`: bits per weight of the first of them; `made`: whether llama.cpp makes it without calibration data.
    """

    name: str
    file_type: str
    blocks: tuple[str, ...]
    bits: float
    made: bool = True

    @property
    def label(self) -> str:
        """The name in file names, e.g. Q4_K_M."""
        return self.name.upper()


def _dense(name: str, file_type: str, bits: float) -> GgufType:
    return GgufType(name, file_type, (name.upper(),), bits)


def _made(name: str, *blocks: str, size: int, width: int = 256) -> GgufType:
    return GgufType(name, f"MOSTLY_{name.upper()}", blocks, size * 8 / width)


def _loaded(name: str, *blocks: str, size: int) -> GgufType:
    return GgufType(name, f"MOSTLY_{name.upper()}", blocks, size * 8 / 256, made=False)


TYPES: dict[str, GgufType] = {
    entry.name: entry
    for entry in (
        _loaded("iq1_s", "IQ1_S", size=50), _loaded("iq2_xxs", "IQ2_XXS", size=66),
        _loaded("iq3_xxs", "IQ3_XXS", size=98), _made("tq1_0", "TQ1_0", size=54), _made("tq2_0", "TQ2_0", size=66),
        _made("q2_k", "Q2_K", size=84), _made("q3_k_s", "Q3_K", size=110), _made("q3_k_m", "Q3_K", size=110),
        _made("q3_k_l", "Q3_K", "Q5_K", size=110), _made("iq4_xs", "IQ4_XS", size=136),
        _made("iq4_nl", "IQ4_NL", size=18, width=32), _made("q4_0", "Q4_0", size=18, width=32),
        _made("q4_1", "Q4_1", size=20, width=32), _made("q4_k_s", "Q4_K", size=144), _made("q4_k_m", "Q4_K", size=144),
        _made("q5_0", "Q5_0", size=22, width=32), _made("q5_1", "Q5_1", size=24, width=32),
        _made("q5_k_s", "Q5_K", size=176), _made("q5_k_m", "Q5_K", size=176), _made("q6_k", "Q6_K", size=210),
        _made("q8_0", "Q8_0", size=34, width=32), _dense("f16", "MOSTLY_F16", 16), _dense("bf16", "MOSTLY_BF16", 16),
        _dense("f32", "ALL_F32", 32),
    )
}  # fmt: skip
"""By name, fewest bits first."""

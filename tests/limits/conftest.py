from __future__ import annotations

import pytest

from gainwatt.limits import DeviceLimits, ModelShape


@pytest.fixture
def h200() -> DeviceLimits:
    """Copy rate and bf16 products measured on an H200."""
    return DeviceLimits(bandwidth_gb_s=4300, tflop_s=790, launch_us=5.0, how="measured on an H200")


@pytest.fixture
def qwen_1_5b() -> ModelShape:
    """Qwen2.5-1.5B as its config.json and bf16 files say."""
    return ModelShape(
        layers=28, hidden_size=1536, heads=12, kv_heads=2, head_dim=128, intermediate_size=8960, vocab_size=151936,
        tie_embeddings=True, parameters=1_543_714_304, weight_bytes=3_087_428_608,
    )  # fmt: skip

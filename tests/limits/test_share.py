from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.limits import DeviceLimits, ModelShape, Roof, decode_roof_tok_s, prefill_roof_tok_s, regime, share


@pytest.mark.parametrize(
    ("batch", "weight_gb", "tok_s"),
    [(1, 3.087, 1393), (1, 1.15, 3747), (1, 1.20, 3572)],
)
def test_known_ceilings_of_qwen_1_5b_on_an_h200(
    qwen_1_5b: ModelShape, h200: DeviceLimits, batch: int, weight_gb: float, tok_s: float
):
    found = decode_roof_tok_s(qwen_1_5b, h200, batch, 0, weight_gb * 1e9)
    assert found == pytest.approx(tok_s, rel=0.005)


def test_batch_64_stays_under_the_bandwidth_roof(qwen_1_5b: ModelShape, h200: DeviceLimits):
    assert decode_roof_tok_s(qwen_1_5b, h200, 64, 0) == pytest.approx(64 * 1393, rel=0.005)
    assert decode_roof_tok_s(qwen_1_5b, h200, 64, 1000) < 45 * 1393  # the caches cost what the weights do


def test_a_large_batch_meets_the_arithmetic(qwen_1_5b: ModelShape, h200: DeviceLimits):
    assert decode_roof_tok_s(qwen_1_5b, h200, 4096, 0) == pytest.approx(790e12 / qwen_1_5b.flops_per_token(0))


def test_reading_the_gsm8k_test_set_takes_seconds(h200: DeviceLimits):
    shape = ModelShape(
        layers=24, hidden_size=896, heads=14, kv_heads=2, head_dim=64, intermediate_size=4864, vocab_size=151936,
        tie_embeddings=True, parameters=494_032_768, weight_bytes=988_065_536,
    )  # fmt: skip
    floor_s = 1319 * 850 / prefill_roof_tok_s(shape, h200, 850, batch=64)
    assert 1.0 < floor_s < 1.6  # 2 x 0.49e9 x 1.1e6 operations at 790e12 a second, without most of the head


def test_a_short_prompt_is_bound_by_reading_the_weights(qwen_1_5b: ModelShape, h200: DeviceLimits):
    assert prefill_roof_tok_s(qwen_1_5b, h200, 1) == pytest.approx(4300e9 / 3_087_428_608)


@given(st.integers(1, 512), st.integers(1, 512), st.floats(0, 8192))
def test_the_roof_rises_with_the_batch_and_falls_with_the_context(batch: int, more: int, context: float):
    shape = ModelShape(4, 128, 4, 2, 32, 256, 640, True, 673_920, 2_695_680)
    limits = DeviceLimits(100, 1, 5, "made up")
    here = decode_roof_tok_s(shape, limits, batch, context)
    assert decode_roof_tok_s(shape, limits, batch + more, context) >= here * (1 - 1e-9)
    assert decode_roof_tok_s(shape, limits, batch, context + more) <= here


def test_a_share_needs_both():
    assert share(50.0, 200.0) == 0.25
    assert share(None, 200.0) is None
    assert share(50.0, None) is None
    assert share(0.0, 200.0) == 0.0


def test_the_device_that_waits_is_launch_bound():
    roof = Roof(bandwidth_s=0.001, compute_s=0.0001)
    assert regime(0.020, roof, device_s=0.002) == "launch"
    assert regime(0.020, roof, device_s=0.018) == "bandwidth"  # a slow kernel is no waiting device
    assert regime(0.020, Roof(0.0001, 0.001), device_s=0.018) == "compute"


def test_launches_decide_where_nothing_looked_at_the_device():
    roof = Roof(bandwidth_s=0.001, compute_s=0.0001)
    assert regime(0.020, roof, launches=600, launch_us=5) == "launch"
    assert regime(0.002, roof, launches=60, launch_us=5) == "bandwidth"


def test_the_share_of_the_roof_decides_last():
    roof = Roof(bandwidth_s=0.001, compute_s=0.0001)
    assert regime(0.020, roof) == "launch"
    assert regime(0.0015, roof) == "bandwidth"

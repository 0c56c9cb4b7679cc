from __future__ import annotations

import pytest
import torch
from bitsandbytes import functional

from gainwatt.weights.quantizers import FP8, INT8, quantizer

from .naive import heavy


def test_int8_codes_are_those_of_bitsandbytes() -> None:
    w = heavy((40, 96), 2).half()
    expected, scales, _ = functional.int8_vectorwise_quant(w)
    found = quantizer(INT8, group_size=128).encode(w.float())
    assert (found.codes.to(torch.int8) != expected).float().mean() < 2e-3  # ties of half precision
    assert torch.allclose(found.scales * 127, scales.float())


@pytest.mark.parametrize(("name", "step_sq"), [(INT8, 3 * 2.0**2), (FP8, 32.0**2 + 2 * 2.0**-18)])
def test_by_hand(name: str, step_sq: float) -> None:
    """One row with the scale 2 (INT8) or 1 (FP8), a zero row, and their errors and steps."""
    top = 254.0 if name == INT8 else 448.0
    w = torch.tensor([[top, 1.25 * 2.0**-7, 0.0], [0.0, 0.0, 0.0]])
    made = quantizer(name, group_size=128)
    encoded = made.encode(w)
    assert encoded.scales.tolist() == [2.0 if name == INT8 else 1.0, 0.0]
    small = 0.0 if name == INT8 else 1.25 * 2.0**-7  # FP8's numbers below 2^-6 are multiples of 2^-9
    assert (encoded.codes * encoded.scales[:, None]).tolist() == [[top, small, 0.0], [0.0, 0.0, 0.0]]
    errors = made.errors(w.numel())
    errors.add(w, encoded)
    assert errors.result().square_sum == pytest.approx((1.25 * 2.0**-7 - small) ** 2)
    assert float(made.step_square_sum(encoded, 6, 3)) == pytest.approx(step_sq)


@pytest.mark.parametrize("name", [INT8, FP8])
def test_restored_weights(name: str) -> None:
    w = heavy((30, 70), 3)
    made = quantizer(name, group_size=128)
    errors = made.errors(w.numel())
    for block in w.split(7):
        errors.add(block, made.encode(block))
    result = errors.result()
    change = (made.restore(w) - w).double()
    assert result.square_sum == pytest.approx(float(change.square().sum()), rel=1e-5)
    assert result.max_abs == pytest.approx(float(change.abs().max()))
    assert 0 < result.square_sum / float(w.double().square().sum()) < (1e-3 if name == INT8 else 2e-3)

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitsandbytes import functional

from gainwatt.errors import InputError
from gainwatt.weights.levels import BlockLevels
from gainwatt.weights.quantizers import FP4, NF4, SYMMETRIC, Quantizer, SymmetricW4, quantizer

from .naive import codes_w4, heavy


def error_of(quantizer: Quantizer, w: torch.Tensor, rows: int) -> float:
    errors = quantizer.errors(w.numel())
    for block in w.split(rows):
        errors.add(block, quantizer.encode(block))
    return errors.result().square_sum


def nf4(*, double_quant: bool) -> BlockLevels:
    return BlockLevels(NF4, double_quant=double_quant)


def bitsandbytes_levels(w: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Level of each weight, and the scales."""
    packed, state = functional.quantize_4bit(w, blocksize=64, quant_type=kind)
    codes = torch.stack((packed.view(-1) >> 4, packed.view(-1) & 15), 1).view(-1)[: w.numel()]
    return functional.get_4bit_type(kind, device="cpu")[codes.int()], state.absmax


def bitsandbytes_error(w: torch.Tensor, *, double_quant: bool) -> float:
    flat = w.reshape(-1)  # bitsandbytes 0.50.2 restores other values on the CPU where 64 does not divide a row
    packed, state = functional.quantize_4bit(flat, blocksize=64, quant_type="nf4", compress_statistics=double_quant)
    return float((functional.dequantize_4bit(packed, state).double() - flat.double()).square().sum())


@pytest.mark.parametrize("columns", [8, 10, 3])
def test_symmetric_codes(columns: int) -> None:
    w = heavy((6, columns), 4)
    w[2, :4] = 0
    found = SymmetricW4(4).encode(w)
    codes, scales = codes_w4(w.numpy(), 4)
    assert np.array_equal(found.codes.flatten(1)[:, :columns].numpy(), codes)
    assert np.array_equal(found.scales.numpy(), scales)
    assert not found.codes.flatten(1)[:, columns:].any()


def test_symmetric_by_hand() -> None:
    w = torch.tensor([[7.0, -3.4, 0.2, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 14.0, 3.0, -1.2]])
    made = SymmetricW4(3)
    encoded = made.encode(w)
    assert encoded.codes.tolist() == [[[7, -3, 0], [0, 0, 0]], [[0, 0, 0], [7, 2, -1]]]
    assert encoded.scales.tolist() == [[1, 0], [0, 2]]
    errors = made.errors(w.numel())
    errors.add(w, encoded)
    result = errors.result()
    assert result.square_sum == pytest.approx(0.4**2 + 0.2**2 + 1 + 0.8**2)
    assert result.max_abs == pytest.approx(1.0)
    assert float(made.step_square_sum(encoded, 12, 6)) == 3 * 1 + 3 * 4


def test_symmetric_step_leaves_padding_out() -> None:
    w = torch.tensor([[7.0, 0.0, 0.0, 14.0]])
    made = SymmetricW4(3)
    assert float(made.step_square_sum(made.encode(w), 4, 4)) == 3 * 1 + 1 * 4


def test_subnormal_weights_stay_within_the_codes() -> None:
    encoded = SymmetricW4(2).encode(torch.tensor([[3e-45, -1e-44]]))
    assert encoded.codes.abs().max() <= 7


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(8, 64), (5, 33), (70, 100), (1, 7), (300, 96)])
def test_levels_are_those_of_bitsandbytes(shape: tuple[int, int], kind: str) -> None:
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16)):
        w = heavy(shape, seed, dtype)
        w.view(-1)[:64] = 0
        expected, absmax = bitsandbytes_levels(w, kind)
        found = BlockLevels(f"bnb-{kind}", double_quant=False).encode(w.float())
        assert torch.equal(found.codes.view(-1)[: w.numel()], expected)
        filled = absmax > 1e-30
        assert torch.equal(found.scales[filled], absmax.float()[filled])


def test_nf4_levels_on_the_midpoints() -> None:
    levels = functional.get_4bit_type("nf4", device="cpu")
    midpoints = (levels[:-1] + levels[1:]) / 2
    around = torch.cat([midpoints, torch.nextafter(midpoints, torch.ones(15)), levels, torch.ones(18)])
    expected, _ = bitsandbytes_levels(around, "nf4")
    assert torch.equal(nf4(double_quant=False).encode(around.view(1, -1)).codes.view(-1), expected)


@pytest.mark.parametrize("name", [NF4, FP4])
def test_the_table_of_levels_is_exact(name: str) -> None:
    """Every value of a fine grid, and both neighbours of each midpoint."""
    made = BlockLevels(name, double_quant=False)
    levels = made.levels()
    midpoints = (levels[:-1] + levels[1:]) / 2
    near = torch.cat([torch.nextafter(midpoints, midpoints + side) for side in (1, -1)] + [midpoints])
    x = torch.cat([torch.linspace(-1, 1, 64 * 1999 - len(near) - 63), near]).view(-1, 1)
    x = torch.cat([torch.ones(len(x), 1), x.expand(-1, 63)], 1)  # every block has the scale 1
    found = made.encode(x).codes[:, 1]
    expected = levels[(x[:, 1:2].numpy() > midpoints.numpy()).sum(1)]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize(("shape", "rows"), [((64, 64), 4), ((33, 160), 2), ((512, 64), 512), ((70, 50), 32)])
def test_nf4_error_is_that_of_bitsandbytes(double_quant: bool, shape: tuple[int, int], rows: int) -> None:
    w = heavy(shape, 8)
    found = error_of(nf4(double_quant=double_quant), w, rows)
    assert found == pytest.approx(bitsandbytes_error(w, double_quant=double_quant), rel=2e-5)


@pytest.mark.parametrize("shape", [(64, 64), (7, 50)])
def test_restored_weights(shape: tuple[int, int]) -> None:
    w = heavy(shape, 8)
    for made in (SymmetricW4(16), nf4(double_quant=True), nf4(double_quant=False)):
        restored = made.restore(w)
        assert restored.shape == w.shape
        assert float((restored - w).double().square().sum()) == pytest.approx(error_of(made, w, 64), rel=1e-5)


def test_double_quantization_of_the_scales_shows() -> None:
    w = heavy((512, 64), 8)
    assert error_of(nf4(double_quant=True), w, 64) != error_of(nf4(double_quant=False), w, 64)


def test_nf4_step() -> None:
    w = torch.zeros(1, 70)
    w[0, 3], w[0, 66] = 15.0, -30.0
    made = nf4(double_quant=False)
    assert float(made.step_square_sum(made.encode(w), 70, 70)) == pytest.approx(64 * 2**2 + 6 * 4**2)


def test_by_name() -> None:
    assert quantizer(SYMMETRIC, group_size=32).name == SYMMETRIC
    made = quantizer(NF4, group_size=32)
    assert isinstance(made, BlockLevels)
    assert made.double_quant
    with pytest.raises(InputError, match="no weight quantizer 'w5'"):
        quantizer("w5", group_size=32)

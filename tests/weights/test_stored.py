"""Quantized checkpoints read from the disk, against the packages that define their formats and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from compressed_tensors.compressors.pack_quantized import helpers
from safetensors.torch import save_file

from gainwatt.errors import InputError, UnavailableError
from gainwatt.weights.stored import stored_matrices

from .naive import heavy

NAME = "model.layers.0.mlp.up_proj"


def save(folder: Path, tensors: dict[str, torch.Tensor], settings: dict[str, object] | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "qwen2"} | ({} if settings is None else {"quantization_config": settings})
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def four_bit(folder: Path, w: torch.Tensor, kind: str, *, double: bool) -> tuple[Path, torch.Tensor]:
    """A checkpoint as bitsandbytes saves it, and what bitsandbytes restores."""
    packed, state = functional.quantize_4bit(w, blocksize=64, quant_type=kind, compress_statistics=double)
    tensors = {f"{NAME}.weight": packed}
    tensors |= {f"{NAME}.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    return save(folder, tensors, {"quant_method": "bitsandbytes"}), functional.dequantize_4bit(packed, state)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_blocks_are_what_bitsandbytes_restores(tmp_path: Path, kind: str, double: bool) -> None:
    folder, expected = four_bit(tmp_path, heavy((300, 128), 3), kind, double=double)
    matrix = stored_matrices(folder)[NAME]
    assert (matrix.shape, matrix.format) == ((300, 128), f"bitsandbytes {kind}")
    values = torch.cat([matrix.block(first, 96).values for first in range(0, 300, 96)])
    assert torch.allclose(values, expected.float(), rtol=1e-6, atol=0)
    block = matrix.block(96, 96)
    assert block.codes.max() <= 15
    assert block.steps.shape == (96, 128)
    # The mean distance between 16 levels from -max|w| to max|w|.
    assert float(block.steps[0, 0]) == pytest.approx(float(heavy((300, 128), 3)[96, :64].abs().max()) * 2 / 15, rel=0.1)


def test_a_zero_of_either_sign_is_one_code(tmp_path: Path) -> None:
    w = torch.full((1, 128), 1e-6)
    w[:, ::64] = 1.0
    sides = [
        four_bit(tmp_path / name, values, "fp4", double=False)[0] for name, values in (("a", w), ("b", w.copysign(-w)))
    ]
    kept = [stored_matrices(folder)[NAME].block(0, 1) for folder in sides]
    assert (kept[0].codes != kept[1].codes).sum() == 2  # the two weights that are not zero
    plain = torch.tensor([[0.0, -0.0, 1.0]]).to(torch.float8_e4m3fn)
    tensors = {f"{NAME}.weight": plain, f"{NAME}.weight_scale": torch.ones(1, 1)}
    settings = compressed({"num_bits": 8, "type": "float", "strategy": "channel"}, "float-quantized")
    codes = stored_matrices(save(tmp_path / "c", tensors, settings))[NAME].block(0, 1).codes
    assert codes[0, 0] == codes[0, 1] != codes[0, 2]


def test_four_bit_codes_that_are_stored_as_another_type(tmp_path: Path) -> None:
    w = heavy((300, 128), 3)
    packed, state = functional.quantize_4bit(w, blocksize=64, quant_type="nf4", quant_storage=torch.bfloat16)
    tensors = {f"{NAME}.weight": packed}
    tensors |= {f"{NAME}.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    matrix = stored_matrices(save(tmp_path, tensors, {"quant_method": "bitsandbytes"}))[NAME]
    values = torch.cat([matrix.block(first, 96).values for first in range(0, 300, 96)])
    assert torch.allclose(values, functional.dequantize_4bit(packed, state).float(), rtol=1e-6, atol=0)


def test_eight_bit_by_hand(tmp_path: Path) -> None:
    codes = torch.tensor([[127, -64, 0], [1, 2, -127]], dtype=torch.int8)
    tensors = {f"{NAME}.weight": codes, f"{NAME}.SCB": torch.tensor([12.7, 254.0])}
    matrix = stored_matrices(save(tmp_path, tensors, {"quant_method": "bitsandbytes"}))[NAME]
    block = matrix.block(0, 2)
    assert torch.allclose(block.values, torch.tensor([[12.7, -6.4, 0.0], [2.0, 4.0, -254.0]]))
    assert torch.allclose(block.steps, torch.tensor([[0.1], [2.0]]))
    assert torch.equal(matrix.block(1, 1).codes, codes[1:])


def compressed(weights: dict[str, object], form: str) -> dict[str, object]:
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"format": form, "weights": weights}}}


@pytest.mark.parametrize("symmetric", [True, False])
def test_packed_integers(tmp_path: Path, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(-8, 8, (24, 64), generator=generator, dtype=torch.int8)
    zeros = torch.zeros((24, 2), dtype=torch.int8)
    if not symmetric:
        zeros = torch.randint(-8, 8, (24, 2), generator=generator, dtype=torch.int8)
    scales = torch.rand((24, 2), generator=generator) + 0.1
    tensors = {
        f"{NAME}.weight_packed": helpers.pack_to_int32(codes, 4),
        f"{NAME}.weight_scale": scales, f"{NAME}.weight_shape": torch.tensor([24, 64]),
    }  # fmt: skip
    if not symmetric:
        tensors[f"{NAME}.weight_zero_point"] = helpers.pack_to_int32(zeros, 4, packed_dim=0)
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": symmetric}
    matrix = stored_matrices(save(tmp_path, tensors, compressed(weights, "pack-quantized")))[NAME]
    steps = scales.repeat_interleave(32, 1)
    expected = (codes.float() - zeros.float().repeat_interleave(32, 1)) * steps
    found = [matrix.block(first, 7) for first in range(0, 24, 7)]
    assert torch.equal(torch.cat([block.codes for block in found]).to(torch.int8), codes)
    assert torch.allclose(torch.cat([block.values for block in found]), expected)
    assert torch.equal(torch.cat([block.steps for block in found]), steps)


def test_groups_in_another_order_of_columns(tmp_path: Path) -> None:
    """GPTQ with activation order keeps the group of each column."""
    tensors = {
        f"{NAME}.weight_packed": helpers.pack_to_int32(torch.full((1, 8), 2, dtype=torch.int8), 4),
        f"{NAME}.weight_scale": torch.tensor([[1.0, 10.0]]), f"{NAME}.weight_shape": torch.tensor([1, 8]),
        f"{NAME}.weight_g_idx": torch.tensor([1, 0, 0, 1, 0, 1, 1, 0], dtype=torch.int32),
    }  # fmt: skip
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 4}
    matrix = stored_matrices(save(tmp_path, tensors, compressed(weights, "pack-quantized")))[NAME]
    assert matrix.block(0, 1).values.tolist() == [[20, 2, 2, 20, 2, 20, 20, 2]]


def test_fp8_by_hand(tmp_path: Path) -> None:
    # Between 1 and 2 neighbouring E4M3 numbers lie 1/8 apart, between 256 and 448 they lie 32 apart, below 2^-6 2^-9.
    codes = torch.tensor([[1.125, -448.0, 2.0**-9], [1.0, 0.0, 3.5]]).to(torch.float8_e4m3fn)
    tensors = {f"{NAME}.weight": codes, f"{NAME}.weight_scale": torch.tensor([[0.5], [2.0]])}
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    matrix = stored_matrices(save(tmp_path, tensors, compressed(weights, "float-quantized")))[NAME]
    block = matrix.block(0, 2)
    assert block.values.tolist() == [[0.5625, -224.0, 2.0**-10], [2.0, 0.0, 7.0]]
    assert block.steps.tolist() == [[0.0625, 16.0, 2.0**-10], [0.25, 2.0**-8, 0.5]]
    assert matrix.format == "float-quantized float8 channel"


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    w = {f"{NAME}.weight": torch.ones(2, 2)}
    strange = compressed({"num_bits": 8, "type": "float", "strategy": "block"}, "float-quantized")
    for number, (settings, says) in enumerate(
        [({"quant_method": "quanto"}, "format 'quanto'"), (strange, "float8, strategy 'block'")]
    ):
        with pytest.raises(UnavailableError, match=says):
            stored_matrices(save(tmp_path / str(number), w, settings))
    with pytest.raises(InputError, match="is not quantized"):
        stored_matrices(save(tmp_path / "dense", w, None))
    with pytest.raises(InputError, match="holds no quantized weight"):
        stored_matrices(save(tmp_path / "empty", w, {"quant_method": "bitsandbytes"}))


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    folder, _ = four_bit(tmp_path / "cut", heavy((8, 64), 1), "nf4", double=False)
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    save(folder, tensors | {f"{NAME}.weight": tensors[f"{NAME}.weight"][:100]}, {"quant_method": "bitsandbytes"})
    with pytest.raises(InputError, match="holds 100 bytes, not the 256 of 8x64"):
        stored_matrices(folder)
    del tensors[f"{NAME}.weight.quant_map"]
    save(folder, tensors, {"quant_method": "bitsandbytes"})
    with pytest.raises(InputError, match=r"lacks the tensor .*quant_map"):
        stored_matrices(folder)


def test_every_row_of_a_tensor(tmp_path: Path) -> None:
    from gainwatt.weights.tensors import read_rows, read_tensors

    made = {"a": torch.arange(12, dtype=torch.int64).view(4, 3), "b": torch.tensor(3.5), "c": torch.zeros(0, 3)}
    found = read_tensors(save(tmp_path, made, None))
    assert torch.equal(read_rows(found["a"], 1, 2), made["a"][1:3])
    assert torch.equal(read_rows(found["a"], 3, 9), made["a"][3:])
    assert np.float32(read_rows(found["b"])) == np.float32(3.5)
    assert read_rows(found["c"]).shape == (0, 3)

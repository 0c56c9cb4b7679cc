"""Errors and changes of stored checkpoints: by hand, and with channel scales folded into the layer before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gainwatt.errors import InputError
from gainwatt.weights.evaluated import CHANGES, Side, compare
from gainwatt.weights.rescaled import Norms
from gainwatt.weights.select import matrices

from .naive import checkpoint, heavy
from .test_stored import NAME, save

LAYER = "model.layers.0"


def int8(folder: Path, codes: list[list[int]], scales: list[float]) -> Path:
    tensors = {f"{NAME}.weight": torch.tensor(codes, dtype=torch.int8), f"{NAME}.SCB": torch.tensor(scales)}
    return save(folder, tensors, {"quant_method": "bitsandbytes"})


def test_every_number_by_hand(tmp_path: Path) -> None:
    """W = [3 4], B = [3 2]; with the step 2, restored Ŵ = [2 4] and B̂ = [4 2]."""
    folders = {
        name: checkpoint(tmp_path / name, {f"{NAME}.weight": torch.tensor([w])})
        for name, w in (("trained", [3.0, 4.0]), ("base", [3.0, 2.0]))
    }
    ours = Side.read(folders["trained"], int8(tmp_path / "q", [[1, 2]], [254.0]))
    base = Side.read(folders["base"], int8(tmp_path / "p", [[2, 1]], [254.0]))
    modules = matrices(folders["trained"])
    (row,), pooled = compare(ours, base, "bnb-int8", modules, elements=64, device="cpu")
    expected = {
        "relative_mse": 1 / 25, "snr_db": 13.979400, "max_abs_error": 1.0, "code_flip_frac": 1.0,
        "update_rms_over_step": (4 / 8) ** 0.5, "quantized_change_ratio": (8 / 4) ** 0.5,
        "quantized_change_cosine": 4 / (4 * 8) ** 0.5,
    }  # fmt: skip
    assert {key: row[key] for key in expected} == pytest.approx(expected)
    assert pooled == pytest.approx(expected)
    assert (row["module_name"], row["scheme"], row["format"], row["numel"]) == (
        NAME,
        "bnb-int8",
        "bitsandbytes int8",
        2,
    )
    _, alone = compare(ours, None, "bnb-int8", modules, elements=64, device="cpu")
    assert [alone[name] for name in CHANGES] == [None] * 4
    _, same = compare(base, base, "bnb-int8", modules, elements=64, device="cpu")
    assert (same["code_flip_frac"], same["quantized_change_ratio"]) == (0.0, None)


def test_blocks_do_not_change_the_numbers(tmp_path: Path) -> None:
    w, other = heavy((40, 64), 1), heavy((40, 64), 1) + 0.002 * heavy((40, 64), 2)
    sides = []
    for name, values in (("t", other), ("b", w)):
        codes = (values / values.abs().amax(1, keepdim=True) * 127).round().to(torch.int8)
        tensors = {f"{NAME}.weight": codes, f"{NAME}.SCB": values.abs().amax(1)}
        dense = checkpoint(tmp_path / name, {f"{NAME}.weight": values})
        sides.append(Side.read(dense, save(tmp_path / f"q{name}", tensors, {"quant_method": "bitsandbytes"})))
    modules = matrices(tmp_path / "t")
    whole, cut = (compare(*sides, "x", modules, elements=size, device="cpu")[1] for size in (1 << 20, 64))
    assert whole == pytest.approx(cut, rel=1e-6)
    assert 0 < whole["code_flip_frac"] < 1


def grouped(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed 4-bit codes and one scale per row."""
    scales = w.abs().amax(1, keepdim=True) / 7
    return (w / scales).round().clamp(-8, 7).to(torch.int8), scales


def rescaled(
    folder: Path, dense: dict[str, torch.Tensor], columns: torch.Tensor, inner: torch.Tensor, norm: str, offset: float
) -> Path:
    """As AWQ stores it: up's inputs scaled against the norm `offset` + weight, down's inputs against up's rows."""
    from compressed_tensors.compressors.pack_quantized import helpers

    from .test_stored import compressed

    up, down = f"{LAYER}.mlp.up_proj", f"{LAYER}.mlp.down_proj"
    stored = {norm: (offset + dense[norm]) / columns - offset}
    for module, w in (
        (up, dense[f"{up}.weight"] * columns / inner[:, None]),
        (down, dense[f"{down}.weight"] * inner),
    ):
        codes, scales = grouped(w)
        stored |= {
            f"{module}.weight_packed": helpers.pack_to_int32(codes, 4), f"{module}.weight_scale": scales,
            f"{module}.weight_shape": torch.tensor(w.shape),
        }  # fmt: skip
    return save(folder, stored, compressed({"num_bits": 4, "type": "int", "strategy": "channel"}, "pack-quantized"))


@pytest.mark.parametrize(
    ("model_type", "norm_name", "offset"),
    [("qwen2", "post_attention_layernorm", 0.0), ("gemma2", "pre_feedforward_layernorm", 1.0)],
)
def test_folded_scales_are_found_again(tmp_path: Path, model_type: str, norm_name: str, offset: float) -> None:
    norm = f"{LAYER}.{norm_name}.weight"
    generator = torch.Generator().manual_seed(3)
    dense = {
        f"{LAYER}.mlp.up_proj.weight": torch.randn((192, 256), generator=generator),
        f"{LAYER}.mlp.down_proj.weight": torch.randn((256, 192), generator=generator),
        norm: torch.rand(256, generator=generator) + 0.5,
    }
    columns, inner = ((torch.randn(n, generator=generator) * 0.5).exp() for n in (256, 192))
    if offset:  # another norm of the block, which feeds nothing that was rescaled
        dense[f"{LAYER}.post_attention_layernorm.weight"] = torch.rand(256, generator=generator)
    folder = checkpoint(tmp_path / "d", dense, model_type=model_type)
    side = Side.read(folder, rescaled(tmp_path / "q", dense, columns, inner, norm, offset))
    found, pooled = compare(side, None, "awq-w4g128", matrices(folder), elements=4096, device="cpu")
    for row in found:
        w = dense[f"{row['module_name']}.weight"]
        outer = (columns, inner.reciprocal()) if "up" in row["module_name"] else (inner, torch.ones(256))
        scaled = w * outer[0] * outer[1][:, None]
        codes, scales = grouped(scaled)
        exact = ((codes * scales) / outer[0] / outer[1][:, None] - w).square().sum() / w.square().sum()
        assert row["relative_mse"] == pytest.approx(float(exact), rel=0.02)
    assert 0.005 < pooled["relative_mse"] < 0.2


def test_each_matrix_is_rescaled_by_the_norm_that_feeds_it() -> None:
    names = ("input_layernorm", "post_attention_layernorm")
    ratios = {f"{LAYER}.{norm}": torch.full((64,), 2.0 + i) for i, norm in enumerate(names)}
    modules = {"self_attn.q_proj": 2.0, "self_attn.k_proj": 2.0, "self_attn.v_proj": 2.0, "self_attn.o_proj": None}
    modules |= {"mlp.gate_proj": 3.0, "mlp.up_proj": 3.0, "mlp.down_proj": None}
    for module, expected in modules.items():
        exact = Norms(ratios)._exact(f"{LAYER}.{module}")
        assert (None if exact is None else float(exact[0])) == expected, module


def test_checkpoints_that_do_not_belong_together(tmp_path: Path) -> None:
    dense = checkpoint(tmp_path / "d", {f"{NAME}.weight": torch.ones(1, 2)})
    with pytest.raises(InputError, match=r"has the shape \[1, 2\] in .* and \[1, 3\] in"):
        Side.read(dense, int8(tmp_path / "wide", [[1, 2, 3]], [1.0]))
    one = Side.read(dense, int8(tmp_path / "q", [[1, 2]], [1.0]))
    other = Side(one.dense, {}, one.norms)
    with pytest.raises(InputError, match="in the base's not quantized there"):
        compare(one, other, "bnb-int8", matrices(dense), elements=64, device="cpu")
    with pytest.raises(InputError, match="none of the measured matrices"):
        compare(other, None, "bnb-int8", matrices(dense), elements=64, device="cpu")


def test_a_restored_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "w", {f"{NAME}.weight": torch.tensor([[3.0, 4.0]])})
    side = Side.read(folder, int8(tmp_path / "q", [[1, 2]], [float("nan")]))
    with pytest.raises(InputError, match=f"{NAME} of the bnb-int8 checkpoint"):
        compare(side, None, "bnb-int8", matrices(folder), elements=64, device="cpu")

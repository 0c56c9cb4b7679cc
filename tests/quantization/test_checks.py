"""What cannot be quantized is an error before any work."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from gainwatt.checkpoint import read_manifest, write_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.quantization import checks
from gainwatt.quantization.checks import (
    check_device,
    check_environment,
    check_finite,
    check_quantizable,
    linear_shapes,
    read_config,
)
from gainwatt.schemes import SCHEMES, Loader, Scheme, get_scheme


def checkpoint(folder, config=None, **tensors):
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "qwen2"}))
    save_file(
        {name.replace("__", "."): torch.zeros(shape) for name, shape in tensors.items()},
        folder / "model.safetensors",
    )
    return write_manifest(folder / "manifest.json", variant="base", scheme="dense")


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if not scheme.dense])
def test_the_tiny_checkpoint_can_be_quantized(tiny_checkpoint, scheme):
    check_quantizable(tiny_checkpoint, get_scheme(scheme))


def test_shapes_are_of_the_blocks_linear_layers(tiny_checkpoint):
    shapes = dict(linear_shapes(tiny_checkpoint.folder))
    assert shapes["model.layers.0.mlp.down_proj.weight"] == (128, 256)
    assert shapes["model.layers.1.self_attn.k_proj.weight"] == (64, 128)
    assert not [name for name in shapes if "embed" in name or "norm" in name or name.endswith("bias")]
    assert len(shapes) == 2 * 7


def test_an_already_quantized_checkpoint_is_refused(tmp_path):
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    made = checkpoint(tmp_path, config, model__layers__0__q__weight=(4, 128))
    with pytest.raises(InputError, match=r"is already quantized \(bitsandbytes\)") as caught:
        check_quantizable(made, get_scheme("bnb-nf4"))
    assert str(tmp_path) in caught.value.what


def test_a_width_that_the_groups_do_not_divide_is_named(tmp_path):
    made = checkpoint(tmp_path, model__layers__0__q__weight=(4, 128), model__layers__0__down__weight=(4, 200))
    with pytest.raises(InputError, match=r"width 200 of model\.layers\.0\.down\.weight"):
        check_quantizable(made, get_scheme("awq-w4g128"))
    check_quantizable(made, get_scheme("bnb-nf4"))  # blocks of 64 run over row ends
    check_quantizable(made, get_scheme("fp8"))


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_broken_config_is_named(tmp_path, text):
    made = checkpoint(tmp_path, a=(1,))
    if text is None:
        (tmp_path / "config.json").unlink()
    else:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=str(tmp_path / "config.json")):
        check_quantizable(made, get_scheme("bnb-nf4"))


def test_a_config_that_is_no_object_is_named(tmp_path):
    checkpoint(tmp_path, a=(1,))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(InputError, match="holds no JSON object"):
        read_config(tmp_path)


def test_a_manifest_of_a_broken_config_is_refused_first(tmp_path):
    checkpoint(tmp_path, a=(1,))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json changed"):
        read_manifest(tmp_path / "manifest.json")


def test_rows_that_autoawqs_search_cannot_take_are_named(tmp_path):
    made = checkpoint(tmp_path, model__layers__0__q__weight=(96, 128))
    check_quantizable(made, get_scheme("awq-w4g128"))
    with pytest.raises(InputError, match=r"output width 96 of model\.layers\.0\.q\.weight"):
        check_quantizable(made, get_scheme("awq-w4g128-autoawq"))


def test_a_gguf_type_that_no_matrix_can_have_is_refused(tmp_path):
    made = checkpoint(tmp_path, model__layers__0__q__weight=(128, 128), model__layers__0__down__weight=(128, 384))
    with pytest.raises(InputError, match=r"no layer in .* has a width that is a multiple"):
        check_quantizable(made, get_scheme("gguf-q4_k_m"))
    check_quantizable(made, get_scheme("gguf-q4_0"))


def test_four_bits_of_bitsandbytes_on_a_cpu_need_widths_of_64(tmp_path):
    made = checkpoint(tmp_path, model__layers__0__q__weight=(4, 96))
    for name in ("bnb-nf4", "bnb-nf4-single", "bnb-fp4"):
        with pytest.raises(UnavailableError, match=r"model\.layers\.0\.q\.weight .* is 96 wide") as caught:
            check_device(made, get_scheme(name), "cpu", None)
        assert "on a GPU" in caught.value.hint
        check_device(made, get_scheme(name), "cuda", (7, 5))
    check_device(made, get_scheme("bnb-int8"), "cpu", None)


def test_bitsandbytes_still_restores_narrow_weights_wrongly():
    """The refusal above is for this; when it fails, the refusal can go."""
    from bitsandbytes import functional

    torch.manual_seed(0)
    errors = {}
    for width in (96, 128):
        weight = torch.randn(64, width)
        restored = functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4"))
        errors[width] = float((restored - weight).square().sum() / weight.square().sum())
    assert errors[128] < 0.011
    assert errors[96] > 3 * errors[128]


def test_a_device_on_which_no_engine_runs_the_scheme_is_named(tiny_checkpoint):
    entry = Scheme("only-new", "llmcompressor", 8, (Loader("vllm", "vllm", cpu=False, capability=(8, 9)),))
    check_device(tiny_checkpoint, entry, "cuda", (8, 9))
    with pytest.raises(UnavailableError, match=r"no engine runs only-new on a GPU of compute capability 8\.6"):
        check_device(tiny_checkpoint, entry, "cuda", (8, 6))
    with pytest.raises(UnavailableError, match="no engine runs only-new on a CPU"):
        check_device(tiny_checkpoint, entry, "cpu", None)


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if not scheme.dense])
def test_every_scheme_runs_on_a_cpu_and_on_a_new_gpu(tiny_checkpoint, scheme):
    check_device(tiny_checkpoint, get_scheme(scheme), "cpu", None)
    check_device(tiny_checkpoint, get_scheme(scheme), "cuda", (9, 0))


def test_a_missing_environment_is_named(monkeypatch):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="'awq', which this environment does not have") as caught:
        check_environment(get_scheme("awq-w4g128-autoawq"))
    assert "make env NAME=autoawq" in caught.value.hint


@pytest.mark.parametrize(("config", "method"), [(None, None), ("awq", "awq"), ({"bits": 4}, r"\?")])
def test_what_a_configuration_says_of_quantization(tmp_path, config, method):
    made = checkpoint(tmp_path, {"quantization_config": config}, model__layers__0__q__weight=(4, 128))
    if method is None:
        check_quantizable(made, get_scheme("bnb-nf4"))
    else:
        with pytest.raises(InputError, match=rf"is already quantized \({method}\)"):
            check_quantizable(made, get_scheme("bnb-nf4"))


def test_blocks_under_other_names_are_checked_too(tmp_path):
    made = checkpoint(tmp_path, transformer__h__0__mlp__weight=(64, 192))
    with pytest.raises(InputError, match=r"width 192 of transformer\.h\.0\.mlp\.weight"):
        check_quantizable(made, get_scheme("gptq-w4g128"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_a_layer_of_another_type_is_refused(tmp_path, dtype):
    made = checkpoint(tmp_path, a=(1,))
    save_file({"model.layers.0.q.weight": torch.ones(4, 128).to(dtype)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.layers\.0\.q\.weight .* is stored as (F64|U8)"):
        check_quantizable(made, get_scheme("bnb-int8"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path, dtype, bad):
    made = checkpoint(tmp_path, a=(1,))
    largest = torch.finfo(dtype).max
    values = {"b": torch.full((5, 3), -largest, dtype=dtype), "c": torch.full((7,), largest, dtype=dtype)}
    save_file(values, tmp_path / "model.safetensors")
    check_finite(made)
    values["c"][-1] = bad
    save_file(values, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"tensor c in .* infinite or not a number"):
        check_finite(made)

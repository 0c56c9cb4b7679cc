"""What cannot be quantized is an error before any work."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from gainwatt.checkpoint import read_manifest, write_manifest
from gainwatt.errors import InputError
from gainwatt.quantization.checks import check_quantizable, linear_widths, read_config
from gainwatt.schemes import SCHEMES, get_scheme


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


def test_widths_are_of_the_blocks_linear_layers(tiny_checkpoint):
    widths = dict(linear_widths(tiny_checkpoint.folder))
    assert widths["model.layers.0.mlp.down_proj.weight"] == 256
    assert widths["model.layers.1.self_attn.q_proj.weight"] == 128
    assert not [name for name in widths if "embed" in name or "norm" in name or name.endswith("bias")]
    assert len(widths) == 2 * 7


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

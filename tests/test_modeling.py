"""Tokenizers and models are loaded from local safetensors, and what cannot be loaded is named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.modeling import device, load_model, load_tokenizer, memory_mib, torch_dtype
from gainwatt.schemes import get_scheme


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def test_dtypes():
    assert torch_dtype("bf16") is torch.bfloat16
    assert torch_dtype("fp16") is torch.float16
    assert torch_dtype("fp32") is torch.float32


@pytest.mark.parametrize(("scheme", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_dense_scheme_loads_in_its_own_type(tiny_checkpoint, scheme, dtype):
    model = load_model(tiny_checkpoint, get_scheme(scheme), "fp16")
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not model.training
    assert model.device.type == device()


def test_a_quantized_scheme_takes_the_studys_type(tiny_checkpoint):
    model = load_model(tiny_checkpoint, get_scheme("bnb-nf4"), "bf16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_tokenizer_pads_on_the_left(tiny_folder):
    tokenizer = load_tokenizer(tiny_folder)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id is not None


def test_a_tokenizer_without_chat_template_is_refused(copied):
    for path in copied.glob("*.jinja"):
        path.unlink()
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no chat template") as caught:
        load_tokenizer(copied)
    assert str(copied) in caught.value.what


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_a_broken_config_is_named(copied):
    (copied / "config.json").write_text('{"model_type": "no-such-model"}')
    checkpoint = write_manifest(copied / "manifest.json", variant="base", scheme="dense")
    with pytest.raises(InputError, match="cannot load the fp32 checkpoint"):
        load_model(checkpoint, get_scheme("fp32"), "fp32")


def test_memory_is_a_number_or_null():
    found = memory_mib()
    assert found["peak_rss_mib"] > 10
    if not torch.cuda.is_available():
        assert found["allocated_mib"] is found["peak_allocated_mib"] is None


def test_truncated_weights_are_named(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    checkpoint = write_manifest(copied / "manifest.json", variant="base", scheme="dense")
    with pytest.raises(InputError, match="cannot load the fp32 checkpoint"):
        load_model(checkpoint, get_scheme("fp32"), "fp32")

"""Checkpoints of transformers 5 in the words of transformers 4."""

from __future__ import annotations

import json

import pytest

from gainwatt import older_transformers
from gainwatt.errors import InputError
from gainwatt.older_transformers import older_config, older_tokenizer_config, readable


def test_the_rotary_base_is_carried_over():
    found = older_config({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "dtype": "bfloat16"})
    assert found == {"rope_theta": 1e6, "torch_dtype": "bfloat16"}


def test_another_rotary_type_keeps_its_numbers():
    rope = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}
    found = older_config({"rope_parameters": rope})
    assert found == {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}


def test_an_older_config_is_left_alone():
    config = {"rope_theta": 1e6, "torch_dtype": "float16", "hidden_size": 128}
    assert older_config(config) == config


def test_rotary_embeddings_by_kind_of_layer_are_refused():
    with pytest.raises(InputError, match="differ by kind of layer"):
        older_config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}})


def test_the_tokenizer_class_is_one_that_version_4_knows():
    config = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "pad_token": "<p>"}
    assert older_tokenizer_config(config) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"], "pad_token": "<p>",
    }  # fmt: skip


def test_the_view_translates_and_links(tiny_folder, monkeypatch):
    monkeypatch.setattr(older_transformers, "is_older", lambda: True)
    before = (tiny_folder / "config.json").read_text()
    with readable(tiny_folder) as view:
        assert view != tiny_folder
        assert (view / "model.safetensors").samefile(tiny_folder / "model.safetensors")
        found = json.loads((view / "config.json").read_text())
        assert found["rope_theta"] == json.loads(before)["rope_parameters"]["rope_theta"]
        assert "rope_parameters" not in found
    assert not view.exists()
    assert (tiny_folder / "config.json").read_text() == before


def test_the_installed_version_reads_the_folder_itself(tiny_folder):
    with readable(tiny_folder) as view:
        assert view == tiny_folder


def test_a_broken_config_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(older_transformers, "is_older", lambda: True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json"), readable(tmp_path):
        pass

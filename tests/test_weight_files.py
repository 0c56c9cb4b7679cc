"""Which files count as a checkpoint's weights: the ones that transformers reads, and all of them must be there."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.weight_files import weight_files
from gainwatt.weights.tensors import read_tensors

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    return tmp_path


def store(folder, name, tensor="a"):
    save_file({f"{tensor}.weight": torch.ones(4, 4)}, folder / name)


def index(folder, names=SHARDS):
    content = {"weight_map": {f"{number}.weight": name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_a_copy_in_another_layout_and_an_adapter_are_no_weights_of_the_checkpoint(folder):
    store(folder, "model.safetensors")
    plain = write_manifest(folder / "manifest.json", variant="base", scheme="dense").weight_bytes
    store(folder, "consolidated.safetensors", "b")
    store(folder, "adapter_model.safetensors", "lora")
    assert list(read_tensors(folder)) == ["a.weight"]
    assert write_manifest(folder / "manifest.json", variant="base", scheme="dense").weight_bytes == plain


def test_shards_are_those_of_the_index(folder):
    for number, name in enumerate((*SHARDS, "consolidated-00001-of-00001.safetensors")):
        store(folder, name, str(number))
    index(folder)
    assert [path.name for path in weight_files(folder)] == list(SHARDS)
    assert len(read_tensors(folder)) == 2


def test_a_missing_shard_is_named_before_anything_is_read(folder):
    store(folder, SHARDS[0])
    index(folder)
    with pytest.raises(InputError, match=f"names the file {SHARDS[1]}, which is not there"):
        read_tensors(folder)
    with pytest.raises(InputError, match="the checkpoint is incomplete"):
        write_manifest(folder / "manifest.json", variant="base", scheme="dense")
    assert not (folder / "manifest.json").exists()


def test_an_unsharded_copy_beside_shards_is_ambiguous(folder):
    for name in (*SHARDS[:1], "model.safetensors"):
        store(folder, name)
    index(folder, SHARDS[:1])
    with pytest.raises(InputError, match="stored twice"):
        read_tensors(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 1}', "{}"])
def test_a_broken_index_is_named(folder, text):
    store(folder, SHARDS[0])
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"cannot read .*index\.json"):
        weight_files(folder)


def test_without_usual_names_all_files_count(folder):
    for name in ("one.safetensors", "two.safetensors"):
        store(folder, name, name)
    assert len(weight_files(folder)) == 2

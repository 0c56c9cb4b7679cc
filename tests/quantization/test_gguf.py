"""GGUF: what can be checked without llama.cpp, and, with --llamacpp-python, the real chain."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import save_file

from factories import ROOT, script_main, write_items
from gainwatt.errors import InputError
from gainwatt.quantization.gguf_tokenizer import add_tokenizer
from gainwatt.quantization.gguf_write import read_numpy, reorder, rope_order
from gainwatt.weights.tensors import read_tensors


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([(), (3,)]))
def test_reordering_rows_can_be_undone(heads, half, rest):
    values = np.arange(heads * 2 * half * int(np.prod(rest, dtype=int))).reshape(heads * 2 * half, *rest)
    assert np.array_equal(reorder(reorder(values, heads), heads, back=True), values)


def test_halves_of_a_head_become_neighbours():
    assert reorder(np.arange(8), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert reorder(np.arange(8), None).tolist() == list(range(8))


def test_only_llama_is_reordered():
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2}
    llama, qwen = (rope_order({**sizes, "model_type": name}) for name in ("llama", "qwen2"))
    assert [llama(f"blk.0.attn_{name}.weight") for name in ("q", "k", "v", "output")] == [4, 2, None, None]
    assert qwen("blk.0.attn_q.weight") is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_stored_numbers_are_read_without_torch(tmp_path, dtype):
    values = torch.randn(3, 5).to(dtype)
    save_file({"x": values}, tmp_path / "model.safetensors")
    assert np.array_equal(read_numpy(read_tensors(tmp_path)["x"]), values.float().numpy())


class Writer:
    """What add_tokenizer wrote, by the name of the method without `add_`."""

    def __init__(self):
        self.found = {}

    def __getattr__(self, name):
        return lambda value: self.found.__setitem__(name.removeprefix("add_"), value)


def test_the_tokenizer_is_carried_over(tiny_folder):
    writer = Writer()
    content = json.loads((tiny_folder / "tokenizer.json").read_text())
    size = len(content["model"]["vocab"]) + 5
    add_tokenizer(writer, tiny_folder, vocab_size=size, pre_tokenizer="qwen2")
    tokens, kinds = writer.found["token_list"], writer.found["token_types"]
    assert len(tokens) == len(kinds) == size
    assert {token: index for index, token in enumerate(tokens)}["<|im_end|>"] == writer.found["eos_token_id"]
    assert [tokens[index] for token, index in content["model"]["vocab"].items() if tokens[index] != token] == []
    assert kinds[tokens.index("<|im_start|>")] == 3
    assert (tokens[-1], kinds[-1]) == (f"[PAD{size - 1}]", 5)
    assert len(writer.found["token_merges"]) == len(content["model"]["merges"])
    assert all(len(pair.split(" ")) == 2 for pair in writer.found["token_merges"])
    assert writer.found["chat_template"] == (tiny_folder / "chat_template.jinja").read_text()


def test_more_tokens_than_embeddings_are_refused(tiny_folder):
    with pytest.raises(InputError, match="and the model only 10 embeddings"):
        add_tokenizer(Writer(), tiny_folder, vocab_size=10, pre_tokenizer="qwen2")


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}}))
    with pytest.raises(InputError, match="no byte-level BPE"):
        add_tokenizer(Writer(), tmp_path, vocab_size=10, pre_tokenizer="qwen2")


# The real chain.


@pytest.fixture
def python(request):
    found = request.config.getoption("--llamacpp-python")
    if not found:
        pytest.skip("needs --llamacpp-python")
    return found


def run(python, script, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [python, str(ROOT / "scripts" / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def family(name, folder):
    """A tiny random checkpoint of another architecture with the tiny tokenizer's files beside it."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes = {
        "vocab_size": 400, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "head_dim": 32,
        "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
    }  # fmt: skip
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**sizes)) if name == "llama" else Qwen3ForCausalLM(Qwen3Config(**sizes))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(4)  # spread the logits, so that a wrong rotation or norm shows in the greedy text
    model.save_pretrained(folder)


@pytest.mark.llamacpp
@pytest.mark.parametrize("scheme", ["gguf-q4_0", "gguf-q4_k_m", "gguf-q8_0"])
def test_a_gguf_scheme_is_made_and_measured(python, scheme, study_file, tiny_folder, tmp_path):
    file = study_file(quantize={"reference": "fp32", "schemes": [scheme], "calibration_items": 4})
    data = write_items(tmp_path / "data", train=6) / "train.jsonl"
    cell = ["--study", file, "--variant", "base", "--scheme", scheme, "--data", data]
    run(python, "quantize.py", *cell, "--checkpoint", tiny_folder / "manifest.json")
    stem = tmp_path / "results/tiny/records/quantize" / f"base.{scheme}"
    record = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    assert record["status"] == "ok"
    tool = record["settings"]["tool"]
    assert tool["tokenizer_checked_texts"] == 6
    assert sum(tool["stored_types"].values()) == 2 * 12 + 2
    assert record["settings"]["smoke"][0]["status"] == "ok"
    low, high = {"gguf-q4_0": (0.005, 0.01), "gguf-q4_k_m": (5e-4, 0.01), "gguf-q8_0": (1e-5, 1e-4)}[scheme]
    assert low < record["metrics"]["relative_mse"] < high
    rows = parquet.read_table(stem.with_name(f"{stem.name}.layers.parquet")).to_pylist()
    assert len(rows) == 14
    assert {row["format"].split("-")[0] for row in rows} == {"gguf"}


@pytest.mark.llamacpp
@pytest.mark.parametrize("name", ["qwen2", "llama", "qwen3"])
def test_llamacpp_answers_as_transformers_does(python, name, study_file, tiny_folder, tmp_path):
    """The converted model, unquantized: the same greedy text and the same loss."""
    import shutil

    from gainwatt.checkpoint import write_manifest

    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    if name != "qwen2":
        family(name, folder)
    write_manifest(folder / "manifest.json", variant="base", scheme="dense")
    data = write_items(tmp_path / "data", test=8) / "test.jsonl"
    found = {}
    for engine in ("transformers", "llamacpp"):
        evaluate = {"engine": engine, "max_new_tokens": 12, "max_prompt_tokens": 200}
        file = study_file(quantize={"reference": "fp32", "schemes": []}, evaluate=evaluate)
        options = ["--study", file, "--variant", "base", "--scheme", "fp32", "--data", data]
        options += ["--checkpoint", folder / "manifest.json"]
        if engine == "llamacpp":
            run(python, "evaluate_gsm8k.py", *options)
        else:
            assert script_main("evaluate_gsm8k")([str(option) for option in options]) == 0
        stem = tmp_path / "results/tiny/records/evaluate_gsm8k"
        loss = json.loads((stem / "base.fp32.json").read_text())["metrics"]["reference_nll_per_token"]
        items = parquet.read_table(stem / "base.fp32.items.parquet").to_pylist()
        found[engine] = loss, [row["text"] for row in sorted(items, key=lambda row: row["index"])]
    assert found["llamacpp"][0] == pytest.approx(found["transformers"][0], rel=1e-3)
    assert found["llamacpp"][1] == found["transformers"][1]

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from gainwatt.errors import InputError, UnavailableError
from gainwatt.limits import ModelShape


def test_the_counts_of_qwen(qwen_1_5b: ModelShape):
    assert qwen_1_5b.body_parameters == 28 * (1536 * 1536 * 2 + 2 * 1536 * 256 + 3 * 1536 * 8960)
    assert qwen_1_5b.matmul_parameters == qwen_1_5b.body_parameters + 1536 * 151936
    # biases and norms are all that a product does not touch, the tied table is the head
    assert 0 < qwen_1_5b.parameters - qwen_1_5b.matmul_parameters < 200_000
    assert qwen_1_5b.kv_bytes_per_token() == 28 * 2 * 2 * 128 * 2 == 28_672
    assert qwen_1_5b.kv_bytes_per_token(4) == 2 * qwen_1_5b.kv_bytes_per_token()


def test_operations_grow_with_the_context(qwen_1_5b: ModelShape):
    empty = qwen_1_5b.flops_per_token(0)
    assert empty == 2 * qwen_1_5b.matmul_parameters
    assert qwen_1_5b.flops_per_token(1000) - empty == 4 * 28 * 12 * 128 * 1000


def test_a_request_is_its_prompt_and_its_further_tokens(qwen_1_5b: ModelShape):
    one_by_one = qwen_1_5b.prefill_flops(50) + sum(qwen_1_5b.flops_per_token(50 + step) for step in range(1, 8))
    assert qwen_1_5b.request_flops(50, 8) == pytest.approx(one_by_one)
    assert qwen_1_5b.request_flops(50, 1) == qwen_1_5b.prefill_flops(50)
    with pytest.raises(ValueError, match="at least one"):
        qwen_1_5b.request_flops(50, 0)


def test_causal_attention_is_counted_token_by_token(qwen_1_5b: ModelShape):
    without = 2 * qwen_1_5b.body_parameters * 9 + 2 * qwen_1_5b.head_parameters
    assert qwen_1_5b.prefill_flops(9) - without == sum(qwen_1_5b.attention_flops(n) for n in range(1, 10))


def test_a_step_reads_the_weights_once_and_every_cache(qwen_1_5b: ModelShape):
    one = qwen_1_5b.decode_bytes_per_step(1, 100)
    assert one == qwen_1_5b.weight_bytes + 100 * 28_672
    assert qwen_1_5b.decode_bytes_per_step(8, 100) - one == 7 * 100 * 28_672


def test_an_untied_input_table_is_not_read_whole(qwen_1_5b: ModelShape):
    table = 2 * 1536 * 151936
    untied = dataclasses.replace(
        qwen_1_5b, tie_embeddings=False, weight_bytes=qwen_1_5b.weight_bytes + table, embedding_bytes=table
    )
    assert untied.read_bytes() == qwen_1_5b.read_bytes()
    assert untied.read_bytes(2 * untied.weight_bytes) == 2 * qwen_1_5b.read_bytes()  # loaded in twice the width
    quantized = untied.weight_bytes - 10**9
    assert untied.read_bytes(quantized) == quantized - table  # quantized on loading: the table keeps its type


def test_a_checkpoint_is_read_without_its_data(tiny_folder: Path):
    shape = ModelShape.from_checkpoint(tiny_folder)
    assert (shape.layers, shape.hidden_size, shape.heads, shape.kv_heads, shape.head_dim) == (2, 128, 4, 2, 32)
    assert shape.tie_embeddings
    assert shape.mlp_matrices == 3
    assert shape.weight_bytes == shape.parameters * 4  # stored in fp32


def test_parameters_are_those_of_the_model(tiny_folder: Path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    shape = ModelShape.from_checkpoint(tiny_folder)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    matrices = [m.weight.numel() for m in model.modules() if type(m).__name__ == "Linear"]
    assert shape.matmul_parameters == sum(matrices)


def test_the_operations_are_those_that_torch_counts(tiny_folder: Path):
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager")
    shape = ModelShape.from_checkpoint(tiny_folder)
    ids = torch.ones(1, 24, dtype=torch.long)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, logits_to_keep=1)
    # eager attention computes the upper triangle too: 24 columns for each of the 24 rows instead of 12.5
    full = shape.prefill_flops(24) + shape.attention_flops(24 - 12.5) * 24
    assert counter.get_total_flops() == pytest.approx(full, rel=0.002)


def _changed(tiny_folder: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_mixture_of_experts_is_refused_by_name(tiny_folder: Path, tmp_path: Path):
    with pytest.raises(UnavailableError, match="mixture of experts"):
        ModelShape.from_checkpoint(_changed(tiny_folder, tmp_path / "moe", num_experts=8))


@pytest.mark.parametrize("value", [None, 0, "many"])
def test_a_missing_size_is_named(tiny_folder: Path, tmp_path: Path, value: object):
    with pytest.raises(InputError, match="num_hidden_layers"):
        ModelShape.from_checkpoint(_changed(tiny_folder, tmp_path / "bad", num_hidden_layers=value))


def test_a_truncated_file_is_named(tiny_folder: Path, tmp_path: Path):
    folder = _changed(tiny_folder, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        ModelShape.from_checkpoint(folder)


def test_a_gguf_file_counts_by_its_size(tiny_folder: Path, tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"x" * 1234)
    shutil.copy(tiny_folder / "config.json", tmp_path)
    shape = ModelShape.from_checkpoint(tmp_path)
    assert shape.weight_bytes == 1234
    assert shape.parameters == shape.matmul_parameters

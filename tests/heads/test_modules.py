"""Heads are found where each architecture has them, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gainwatt.errors import InputError
from gainwatt.heads.modules import Head, all_heads, find_heads

from .models import SHAPES, tiny


@pytest.mark.parametrize("kind", SHAPES)
def test_architectures(kind):
    layers = find_heads(tiny(kind))
    assert [(layer.layer, layer.heads, layer.kv_heads) for layer in layers] == [(0, 4, 2), (1, 4, 2)]
    assert {layer.head_dim for layer in layers} == {SHAPES[kind].get("head_dim", 16)}
    assert all_heads(layers) == [Head(layer, head) for layer in range(2) for head in range(4)]
    assert [layers[0].kv_head(head) for head in range(4)] == [0, 0, 1, 1]
    assert layers[0].columns(3) == slice(3 * layers[0].head_dim, 4 * layers[0].head_dim)


def test_an_architecture_without_output_projection_is_refused():
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11))
    with pytest.raises(InputError, match="GPT2LMHeadModel has no module called o_proj"):
        find_heads(model)


def test_a_projection_that_does_not_hold_whole_heads_is_refused():
    model = tiny("llama")
    model.model.layers[1].self_attn.o_proj = torch.nn.Linear(63, 64)
    with pytest.raises(InputError, match="63 inputs, which are not heads of 16"):
        find_heads(model)

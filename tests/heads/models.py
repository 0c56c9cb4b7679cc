"""Hand-built models whose heads are known, and tiny ones of several architectures."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

FEATURE, FIRST = 0, 1
"""Dimensions of the embedding: what tells the two classes apart, and what marks the first token of a prompt."""
KINDS = 40
"""Words; word w of class a is token 2w + 1, of class b token 2w + 2; token 0 begins a prompt."""


def hand_built(*, reading: tuple[int, int], kv_heads: int = 4) -> Qwen2ForCausalLM:
    """Two layers of four heads over embeddings that nothing changes: o_proj and the MLPs are zero.

    Both tokens of a word have the same embedding but for FEATURE, which is +1 for class a and −1 for class b. Values
    read one random dimension each, never FEATURE, except the key/value head of the head `reading` (layer, head). Its
    siblings attend to the first token alone, which is the same in every prompt.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=2 * KINDS + 1, hidden_size=64, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 1e9},
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        words = torch.randn(KINDS, 64)
        words[:, (FEATURE, FIRST)] = 0
        table = words.repeat_interleave(2, dim=0)
        table[::2, FEATURE], table[1::2, FEATURE] = 4.0, -4.0
        start = torch.zeros(1, 64)
        start[0, FIRST] = 8.0
        model.model.embed_tokens.weight.copy_(torch.cat([start, table]))
        for place, layer in enumerate(model.model.layers):
            _build(layer, place, reading, kv_heads)
    return model


def _build(layer, place: int, reading: tuple[int, int], kv_heads: int) -> None:
    attention, d = layer.self_attn, 16
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, layer.mlp.down_proj):
        part.weight.zero_()
        if part.bias is not None:
            part.bias.zero_()
    group = 4 // kv_heads
    for kv in range(kv_heads):
        reads = place == reading[0] and kv == reading[1] // group
        dimension = FEATURE if reads else 2 + 5 * kv + place
        attention.v_proj.weight[kv * d : (kv + 1) * d, dimension] = 1.0
        if reads:
            # The last rotary pair hardly turns: queries of the siblings point at the first token wherever they stand.
            attention.k_proj.weight[kv * d + d // 2 - 1, FIRST] = 4.0
            for sibling in set(range(kv * group, (kv + 1) * group)) - {reading[1]}:
                attention.q_proj.bias[sibling * d + d // 2 - 1] = 40.0


def prompts(count: int, kind: str, seed: int, tokens: int = 24) -> list[list[int]]:
    """Prompts of class a or b: the same distribution of words, in the class's own tokens."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(0, KINDS, (count, tokens), generator=generator)
    return [[0, *(2 * word + (1 if kind == "a" else 2)).tolist()] for word in words]


SHAPES = {
    "qwen2": {}, "qwen3": {"head_dim": 32}, "llama": {}, "mistral": {}, "gemma": {"head_dim": 32},
    "gemma2": {"head_dim": 24}, "gemma3_text": {"head_dim": 32}, "phi3": {},
}  # fmt: skip


def tiny(kind: str):
    """A random model of an architecture: 2 layers, 4 query heads, 2 key/value heads, hidden size 64."""
    torch.manual_seed(1)
    options = {
        "vocab_size": 50, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, **SHAPES[kind],
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options)).eval()

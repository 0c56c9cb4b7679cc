"""A small Qwen2 model with random weights: same architecture and code path as the real study, sized for a CPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gainwatt.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

# Input features of every linear layer are a multiple of this, so that 4-bit groups of 128 divide every matrix.
GROUP = 128

# Of the smallest width, where three times the usual 0.02 reaches the same loss in half the steps. It falls with the
# root of the width, so that a layer's output keeps its size.
_INITIAL_STD = 0.06


def build_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int = 128,
    intermediate_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    max_tokens: int = 512,
    seed: int = 0,
) -> Qwen2ForCausalLM:
    """Return a Qwen2 model in fp32 with tied embeddings, a function of its arguments.

    The embedding has one row per token, rounded up to a multiple of 64. Raises InputError for sizes that are no
    multiple of 128 or heads that do not divide.
    """
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    _check_sizes(hidden_size, intermediate_size, heads, kv_heads)
    tokens: dict[str, int] = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        initializer_range=_INITIAL_STD * math.sqrt(GROUP / hidden_size),
        use_cache=True,
        bos_token_id=None,
        **tokens,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        with torch.no_grad():
            # Digits must stand out from the start: with token vectors as small as the matrices arithmetic comes
            # much later.
            model.get_input_embeddings().weight.mul_(2.0)
    model.generation_config = GenerationConfig(do_sample=False, **tokens)
    return model.float()


def _check_sizes(hidden_size: int, intermediate_size: int, heads: int, kv_heads: int) -> None:
    for name, size in (("hidden_size", hidden_size), ("intermediate_size", intermediate_size)):
        if size < 1 or size % GROUP:
            raise InputError(
                f"{name} is {size}; 4-bit groups of {GROUP} weights would not divide it",
                f"use a multiple of {GROUP}",
            )
    if heads < 1 or kv_heads < 1 or hidden_size % (2 * heads) or heads % kv_heads:
        raise InputError(
            f"{heads} heads and {kv_heads} key/value heads do not fit a hidden size of {hidden_size}",
            "hidden_size / heads must be even, and kv_heads must divide heads",
        )

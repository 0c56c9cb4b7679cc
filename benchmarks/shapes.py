"""Shapes of the models that the benchmarks fill with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHAPES = {
    "qwen2.5-0.5b": {"hidden": 896, "intermediate": 4864, "layers": 24, "heads": 14, "kv_heads": 2, "vocab": 151936},
    "qwen2.5-1.5b": {"hidden": 1536, "intermediate": 8960, "layers": 28, "heads": 12, "kv_heads": 2, "vocab": 151936},
    "tiny": {"hidden": 256, "intermediate": 512, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 1024},
}


def qwen2_config(shape: Mapping[str, Any], *, max_tokens: int, **more: Any) -> Any:
    """transformers' configuration of a Qwen2 model of `shape`, the output layer tied to the embeddings."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=max_tokens, tie_word_embeddings=True, **more,
    )  # fmt: skip

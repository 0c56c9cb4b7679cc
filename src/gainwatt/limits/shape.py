"""A decoder's shape, read from config.json and the headers of its files: parameters, bytes and operations.

The counts hold for dense decoders of the Llama family (Llama, Qwen2, Qwen3, Mistral, TinyLlama, …): grouped-query
attention with four projections and an MLP of two or three matrices. Mixtures of experts are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gainwatt.errors import InputError, UnavailableError
from gainwatt.quantization.checks import read_config
from gainwatt.weights.tensors import Tensor, read_tensors

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_UNPACKED = (".bias", "norm.weight")  # what every scheme stores one by one


@dataclass(frozen=True)
class ModelShape:
    """Sizes of one decoder. Counts are elements, `_bytes` are bytes.

    `parameters` are the logical ones, whatever the scheme packs them into; a tied head counts once, and of a GGUF file
    norms and biases (under 0.1 %) are not counted. `weight_bytes` are the bytes of all stored tensors (a GGUF file's
    size), and `embedding_bytes` those of an input table that a decoding
    step reads only single rows of: 0 where the head is tied to it, because the head reads it whole.
    """

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tie_embeddings: bool
    parameters: int
    weight_bytes: int
    mlp_matrices: int = 3
    embedding_bytes: int = 0

    @classmethod
    def from_checkpoint(cls, path: Path | str) -> Self:
        """Read the shape of the checkpoint in the folder `path`; no tensor's data is read.

        Raises InputError where config.json lacks a size or the files are damaged, and UnavailableError for a model
        whose work per token these formulas do not describe.
        """
        folder = Path(path)
        whole = read_config(folder)
        config = whole.get("text_config", whole)
        if any(config.get(key) for key in _EXPERTS):
            raise UnavailableError(
                f"the checkpoint in {folder} is a mixture of experts ({config.get('model_type', 'unknown type')})",
                "roofs are known for dense decoders only; the speeds themselves can be measured all the same",
            )
        sizes = _sizes(config, folder)
        tied = bool(whole.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
        gguf = sorted(folder.glob("*.gguf"))
        if gguf:
            stored_bytes = sum(file.stat().st_size for file in gguf)
            return cls(**sizes, tie_embeddings=tied, parameters=_count(sizes, tied, 3), weight_bytes=stored_bytes)
        tensors = read_tensors(folder)
        if tied:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head.")}
        matrices = 3 if any(".gate_" in name for name in tensors) else 2
        small = sum(tensor.numel for name, tensor in tensors.items() if name.endswith(_UNPACKED))
        return cls(
            **sizes,
            tie_embeddings=tied,
            parameters=_count(sizes, tied, matrices) + small,
            weight_bytes=sum(tensor.end - tensor.begin for tensor in tensors.values()),
            mlp_matrices=matrices,
            embedding_bytes=0 if tied else _table_bytes(tensors),
        )

    @property
    def body_parameters(self) -> int:
        """Parameters of the matrices inside of the layers: what the quantization schemes compress."""
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + self.mlp_matrices * self.hidden_size * self.intermediate_size)

    @property
    def head_parameters(self) -> int:
        """Parameters of the output projection, which every generated token is multiplied with."""
        return self.hidden_size * self.vocab_size

    @property
    def matmul_parameters(self) -> int:
        """Parameters that one generated token is multiplied with: body and head, without the input table's look-up."""
        return self.body_parameters + self.head_parameters

    def kv_bytes_per_token(self, dtype_bytes: float = 2) -> float:
        """Bytes that the key-value cache holds for one token: a key and a value per layer and key-value head."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype_bytes

    def attention_flops(self, context_tokens: float) -> float:
        """Floating-point operations of one token's attention over `context_tokens` tokens, all layers.

        Scores and weighted values are one product each of heads × head_dim × context, two operations per element.
        """
        return 4 * self.layers * self.heads * self.head_dim * context_tokens

    def flops_per_token(self, context_tokens: float) -> float:
        """Floating-point operations for one generated token with `context_tokens` tokens in the cache.

        Two per parameter that takes part in a matrix product, and the attention over the context (Kaplan et al.,
        https://arxiv.org/abs/2001.08361, section 2.1). Norms, rotations and the softmax are left out: under 1 %.
        """
        return 2 * self.matmul_parameters + self.attention_flops(context_tokens)

    def prefill_flops(self, prompt_tokens: int) -> float:
        """Operations that read one prompt: every token through the body, causal attention, the head once at the end."""
        causal = self.attention_flops((prompt_tokens + 1) / 2) * prompt_tokens
        return 2 * self.body_parameters * prompt_tokens + causal + 2 * self.head_parameters

    def request_flops(self, prompt_tokens: int, new_tokens: int) -> float:
        """Operations of one request: the prompt, which gives the first token, and every further token."""
        if new_tokens < 1:
            raise ValueError("a request generates at least one token")
        further = new_tokens - 1
        mean_context = prompt_tokens + (further + 1) / 2
        return self.prefill_flops(prompt_tokens) + further * self.flops_per_token(mean_context)

    def read_bytes(self, weight_bytes: float | None = None) -> float:
        """Bytes of weights that one decoding step reads; `weight_bytes` are those in memory (None: as stored).

        All but an untied input table. Where the weights take more memory than disk (a bf16 checkpoint in fp32) the
        table has grown alike; where they take less they were quantized on loading, which leaves the table alone.
        """
        held = self.weight_bytes if weight_bytes is None else weight_bytes
        return held - self.embedding_bytes * max(1.0, held / self.weight_bytes)

    def decode_bytes_per_step(
        self, batch: int, context_tokens: float, weight_bytes: float | None = None, kv_dtype_bytes: float = 2
    ) -> float:
        """Bytes that one decoding step of `batch` sequences must read: the weights once, and each sequence's cache.

        `weight_bytes` are all bytes of weights in memory (None: as stored), `context_tokens` the tokens in one
        sequence's cache. Activations and the one cache entry written per sequence are left out: under 1 %.
        """
        return self.read_bytes(weight_bytes) + batch * context_tokens * self.kv_bytes_per_token(kv_dtype_bytes)


def _sizes(config: dict[str, Any], folder: Path) -> dict[str, int]:
    names = {
        "layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "vocab_size": "vocab_size",
    }
    sizes: dict[str, int] = {}
    for field, key in names.items():
        value = config.get(key)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"config.json in {folder} has no usable {key}: {value!r}", "give a decoder's checkpoint")
        sizes[field] = value
    sizes["kv_heads"] = config.get("num_key_value_heads") or sizes["heads"]
    sizes["head_dim"] = config.get("head_dim") or sizes["hidden_size"] // sizes["heads"]
    return sizes


def _count(sizes: dict[str, int], tied: bool, matrices: int) -> int:
    """Parameters of the matrices and tables; biases and norms are counted where they are stored."""
    bare = ModelShape(**sizes, tie_embeddings=tied, parameters=0, weight_bytes=1, mlp_matrices=matrices)
    return bare.matmul_parameters + (0 if tied else bare.head_parameters)


def _table_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.end - tensor.begin for name, tensor in tensors.items() if "embed_tokens." in name)

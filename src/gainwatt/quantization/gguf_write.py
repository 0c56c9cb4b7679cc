"""A checkpoint of transformers as one GGUF file of unquantized weights, for llama.cpp to quantize.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Names of tensors and keys come from the `gguf`
package; matrices keep their stored type, everything one-dimensional becomes fp32, as llama.cpp's kernels expect it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.quantization.checks import read_config
from gainwatt.quantization.gguf_tokenizer import add_tokenizer
from gainwatt.weights.tensors import Tensor, read_tensors

ARCHITECTURES = ("qwen2", "qwen3", "llama")


def write_gguf(
    source: Path, target: Path, *, pre_tokenizer: str, weights: bool = True, dtype: str | None = None
) -> None:
    """Write the checkpoint in `source` to `target`; `pre_tokenizer` is llama.cpp's name of the way text is split.

    Matrices become `dtype` (fp32, bf16, fp16), or keep the type that they are stored in. Without `weights` the file
    holds the vocabulary and the sizes only.

    Raises InputError for an architecture, a rotary embedding or a tensor that is not translated here.
    """
    import gguf

    config = read_config(source)
    architecture = str(config.get("model_type"))
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"the model in {source} has the architecture {architecture!r}, and only {', '.join(ARCHITECTURES)} are "
            "converted to GGUF",
            "leave the gguf schemes out of quantize.schemes for this model",
        )
    writer = gguf.GGUFWriter(target, architecture)
    try:
        _add_sizes(writer, config, source)
        add_tokenizer(writer, source, vocab_size=int(config["vocab_size"]), pre_tokenizer=pre_tokenizer)
        tensors = list(_named(source, architecture, int(config["num_hidden_layers"]))) if weights else []
        for name, tensor in tensors:
            kind = _kind(tensor, dtype)
            size = _element_bytes(kind) * tensor.numel
            writer.add_tensor_info(name, tensor.shape, _numpy_type(kind), size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        order = rope_order(config)
        for name, tensor in tensors:
            writer.write_tensor_data(_values(tensor, order(name), _kind(tensor, dtype)))
    finally:
        writer.close()


def _add_sizes(writer: Any, config: dict[str, Any], source: Path) -> None:
    heads = int(config["num_attention_heads"])
    width = int(config["hidden_size"])
    head = int(config.get("head_dim") or width // heads)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(width)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_rope_base(config, source))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))


def _rope_base(config: dict[str, Any], source: Path) -> float:
    """The base of the rotary embedding, from the words of transformers 5 or 4."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    base = rope.get("rope_theta") or config.get("rope_theta")
    if kind != "default" or base is None:
        raise InputError(
            f"the model in {source} has rotary embeddings of the type {kind!r} with base {base}, and only the default "
            "type is converted to GGUF",
            "leave the gguf schemes out of quantize.schemes for this model",
        )
    return float(base)


def _named(source: Path, architecture: str, blocks: int) -> Iterator[tuple[str, Tensor]]:
    names = tensor_names(architecture, blocks)
    for name, tensor in read_tensors(source).items():
        translated = names(name)
        if translated is None:
            raise InputError(f"the tensor {name} in {source} has no name in GGUF", "use another scheme for this model")
        yield translated, tensor


def tensor_names(architecture: str, blocks: int) -> Callable[[str], str | None]:
    """From a name in transformers to the name in GGUF; None where there is none."""
    import gguf

    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(kinds[architecture], blocks)
    return lambda name: table.get_name(name, try_suffixes=(".weight", ".bias"))


def rope_order(config: dict[str, Any]) -> Callable[[str], int | None]:
    """For a GGUF tensor: the number of heads whose rows must be reordered, None for a tensor that stays as it is.

    llama.cpp rotates neighbouring pairs of rows in a `llama` model, transformers halves of a head.
    """
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)

    def of(name: str) -> int | None:
        if config.get("model_type") != "llama":
            return None
        return heads if ".attn_q." in name else kv_heads if ".attn_k." in name else None

    return of


def reorder(values: Any, heads: int | None, *, back: bool = False) -> Any:
    """Rows [heads x 2 x half] of a numpy array as [heads x half x 2]; `back` undoes it; None leaves it as it is."""
    if heads is None:
        return values
    half = values.shape[0] // heads // 2
    inner = (half, 2) if back else (2, half)
    return values.reshape(heads, *inner, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _kind(tensor: Tensor, dtype: str | None) -> Any:
    """The type of a tensor in the file."""
    import gguf

    asked = {"fp32": "F32", "bf16": "BF16", "fp16": "F16", None: tensor.dtype}[dtype]
    return gguf.GGMLQuantizationType[asked if len(tensor.shape) > 1 else "F32"]


def _element_bytes(kind: Any) -> int:
    return 4 if kind.name == "F32" else 2


def _numpy_type(kind: Any) -> Any:
    import numpy as np

    return np.dtype({"F32": "float32", "F16": "float16", "BF16": "uint16"}[kind.name])


def _values(tensor: Tensor, heads: int | None, kind: Any) -> Any:
    """The numbers to write, in the type `kind`."""
    import gguf
    import numpy as np

    if kind.name == tensor.dtype:
        values = _raw(tensor)
    elif kind.name == "BF16":
        values = gguf.quants.quantize(read_numpy(tensor), kind).view(np.uint16)
    else:
        values = read_numpy(tensor).astype(_numpy_type(kind))
    return np.ascontiguousarray(reorder(values, heads))


def _raw(tensor: Tensor) -> Any:
    """The stored numbers; bf16, which numpy lacks, as uint16."""
    import numpy as np

    if tensor.dtype not in ("F32", "F16", "BF16"):
        raise InputError(
            f"the tensor {tensor.name} in {tensor.path} is stored as {tensor.dtype}", "give an unquantized checkpoint"
        )
    kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[tensor.dtype]
    return np.memmap(tensor.path, dtype=kind, mode="r", offset=tensor.begin, shape=tensor.shape)


def read_numpy(tensor: Tensor) -> Any:
    """A stored tensor as fp32, without torch."""
    import numpy as np

    raw = _raw(tensor)
    if tensor.dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)

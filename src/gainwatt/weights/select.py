"""Which tensors of a checkpoint are measured: 2-D weights, each once, embeddings only where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gainwatt.errors import InputError
from gainwatt.quantization.checks import quantization_method, read_config
from gainwatt.weights.tensors import Tensor, read_tensors, same_values

_SUFFIX = ".weight"
_EMBEDDINGS = {
    "embed_tokens", "embed_positions", "tok_embeddings", "word_embeddings", "position_embeddings",
    "token_type_embeddings", "wte", "wpe", "shared", "embeddings", "embedding",
}  # fmt: skip
_HEADS = {"lm_head", "embed_out", "output"}


@dataclass(frozen=True)
class Matrix:
    """One measured weight: `module` is the tensor's name without `.weight`, `kind` is Linear or Embedding."""

    module: str
    kind: str
    tensor: Tensor


def matrices(folder: Path, *, include_embeddings: bool = False) -> list[Matrix]:
    """The 2-D weights of the checkpoint in `folder`, sorted by name.

    An output head that is stored beside the embedding which it is tied to (same bytes, and the configuration does not
    say untied) is that embedding and not measured a second time. Rows are output channels, as torch's Linear stores
    them. Raises InputError for a quantized checkpoint, for one without 2-D weights, and for what cannot be read.
    """
    config = read_config(folder)
    method = quantization_method(config)
    if method is not None:
        raise InputError(f"the checkpoint in {folder} is quantized ({method})", "give the unquantized checkpoint")
    flat = [t for t in read_tensors(folder).values() if len(t.shape) == 2 and t.name.endswith(_SUFFIX) and t.numel]
    embeddings = [t for t in flat if _last(t) in _EMBEDDINGS]
    untied = config.get("tie_word_embeddings") is False
    copies = {
        head.name
        for head in flat
        if _last(head) in _HEADS and not untied and any(same_values(head, other) for other in embeddings)
    }
    left_out = copies if include_embeddings else copies | {t.name for t in embeddings}
    found = [Matrix(_module(t), _kind(t), t) for t in flat if t.name not in left_out]
    if not found:
        raise InputError(f"the checkpoint in {folder} holds no 2-D weight to measure", "check the checkpoint")
    return found


def counterparts(trained: list[Matrix], base: list[Matrix]) -> dict[str, Tensor]:
    """Module name -> the base's tensor, for each trained matrix.

    Raises InputError naming the tensor that one of the two lacks, or that differs in shape or stored type: a change of
    type alone would look like a change by training.
    """
    ours, theirs = ({m.module: m.tensor for m in found} for found in (trained, base))
    for module in sorted(ours.keys() ^ theirs.keys()):
        there = (ours if module in ours else theirs)[module]
        lacking = "base" if module in ours else "trained"
        raise InputError(
            f"{module} is in {there.path.parent} and not in the {lacking} checkpoint",
            "compare a trained checkpoint with the base that it started from",
        )
    for module, tensor in ours.items():
        other = theirs[module]
        for what, one, two in (("shape", tensor.shape, other.shape), ("type", tensor.dtype, other.dtype)):
            if one != two:
                raise InputError(
                    f"{module} has the {what} {one} in {tensor.path.parent} and {two} in {other.path.parent}",
                    "compare checkpoints of the same model, stored in the same type",
                )
    return theirs


def _module(tensor: Tensor) -> str:
    return tensor.name.removesuffix(_SUFFIX)


def _last(tensor: Tensor) -> str:
    return _module(tensor).rpartition(".")[2]


def _kind(tensor: Tensor) -> str:
    return "Embedding" if _last(tensor) in _EMBEDDINGS else "Linear"

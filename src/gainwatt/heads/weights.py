"""The weights of single heads: their norms, and how far training moved them.

Head h owns columns [h·d, (h+1)·d) of o_proj and rows [h·d, (h+1)·d) of q_proj; rows of k_proj and v_proj belong to a
key/value head, which several query heads share under grouped queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.heads.modules import HeadLayer
from gainwatt.weights.tensors import Tensor, read_rows, read_tensors

CHANGES = ("dw_o_norm", "dw_q_norm", "dw_kv_norm", "dw_norm", "dw_relative")
"""Norms of the change of a head's part of o_proj, of q_proj, and of its key/value head's of k_proj and v_proj; of the
first two together (what belongs to the head alone), and that over the norm of the base's weights there."""


def output_norms(layers: Sequence[HeadLayer]) -> list[float] | None:
    """Frobenius norm of each head's columns of o_proj; None where the weights are packed (a quantized checkpoint)."""
    import torch

    found: list[float] = []
    for layer in layers:
        weight = getattr(layer.module, "weight", None)
        if weight is None or not weight.is_floating_point() or weight.shape[-1] != layer.heads * layer.head_dim:
            return None
        if weight.element_size() < 2:
            return None  # FP8: codes that count only with their scales
        with torch.inference_mode():
            parts = weight.float().unflatten(1, (layer.heads, layer.head_dim))
            found += parts.square().sum(dim=(0, 2)).sqrt().tolist()
    return found


def changes(layers: Sequence[HeadLayer], trained: Path, base: Path) -> list[dict[str, float | None]]:
    """The columns `CHANGES` for each head, from the safetensors of two unquantized checkpoints.

    A norm is None where the architecture stores that matrix otherwise (joined q, k and v, or gates beside the queries).
    Raises InputError where the two are not of one shape.
    """
    new, old = read_tensors(trained), read_tensors(base)
    rows: list[dict[str, float | None]] = []
    for layer in layers:
        names = {
            part: f"{layer.name.rpartition('.')[0]}.{part}.weight" for part in ("o_proj", "q_proj", "k_proj", "v_proj")
        }
        squares = {part: _squares(new.get(name), old.get(name), layer, part) for part, name in names.items()}
        rows += [_row(squares, layer, head) for head in range(layer.heads)]
    return rows


Squares = tuple[list[float], list[float]] | None
"""By head (key/value head for k and v): sum of squares of the change and of the base's weights."""


def _squares(new: Tensor | None, old: Tensor | None, layer: HeadLayer, part: str) -> Squares:
    if new is None or old is None:
        return None
    if new.shape != old.shape:
        raise InputError(
            f"{new.name} has the shape {new.shape} in {new.path} and {old.shape} in {old.path}",
            "give the base that the checkpoint was trained from",
        )
    axis = 1 if part == "o_proj" else 0
    count = layer.kv_heads if part in ("k_proj", "v_proj") else layer.heads
    if new.shape[axis] != count * layer.head_dim:
        return None
    before = read_rows(old).double()
    change = read_rows(new).double() - before
    return _by_head(change, axis, count), _by_head(before, axis, count)


def _by_head(values: Any, axis: int, count: int) -> list[float]:
    parts = values.unflatten(axis, (count, -1)).square()
    found: list[float] = parts.sum(dim=(0, 2) if axis == 1 else (1, 2)).tolist()
    return found


def _row(squares: dict[str, Squares], layer: HeadLayer, head: int) -> dict[str, float | None]:
    def norm(*parts: tuple[str, int], of: int = 0) -> float | None:
        known = [(squares[part], place) for part, place in parts]
        total = 0.0
        for entry, place in known:
            if entry is None:
                return None
            total += entry[of][place]
        return total**0.5

    group = layer.kv_head(head)
    own = (("o_proj", head), ("q_proj", head))
    change, weights = norm(*own), norm(*own, of=1)
    return {
        "dw_o_norm": norm(own[0]),
        "dw_q_norm": norm(own[1]),
        "dw_kv_norm": norm(("k_proj", group), ("v_proj", group)),
        "dw_norm": change,
        "dw_relative": None if change is None or not weights else change / weights,
    }

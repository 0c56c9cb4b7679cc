"""Switch heads off in a loaded model, and bring them back bit by bit the same.

A head is off when its columns of the output projection are zero: what it computes then reaches nothing. The layers
keep their shape, so that time and energy per token stay what they were; what a pruned model can save is seen in the
length of its answers, and `removable_parameters` tells what cutting the heads out for good would free.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.errors import GainwattError, InputError
from gainwatt.heads.modules import Head, HeadLayer, all_heads
from gainwatt.study.heads import Prune

BASELINE = "none"


class RestoreError(GainwattError):
    """The weights after a point are not those before it."""


@dataclass(frozen=True)
class Point:
    """One point of the curve: a strategy at a share of heads; `draw` counts the draws of random heads from 0."""

    strategy: str
    percent: float
    draw: int | None = None

    @property
    def name(self) -> str:
        """E.g. none-0, tv-20, random-20-d1."""
        return f"{self.strategy}-{self.percent:g}" + ("" if self.draw is None else f"-d{self.draw}")


def points(settings: Prune) -> list[Point]:
    """The points in the order in which they are measured: the unpruned model first, then by share and strategy."""
    found = [Point(BASELINE, 0)]
    for percent in sorted(settings.percents):
        for strategy in settings.strategies:
            draws = range(settings.random_draws) if strategy == "random" else [None]
            found += [Point(strategy, percent, draw) for draw in draws]
    return found


def count(percent: float, heads: int) -> int:
    """How many of `heads` are switched off at `percent`: rounded down, so that 0 % is none."""
    # 30 % of 10 must be 3 although 0.3 × 10 is less than 3 in floating point.
    return math.floor(percent * heads / 100 + 1e-9)


def chosen(
    point: Point, heads: Sequence[Head], scores: dict[Head, float], norms: dict[Head, float], seed: int
) -> list[Head]:
    """The heads that a point switches off; equal scores go by layer and head. A draw of random heads at a larger share
    contains that at a smaller one, as the ordered strategies do.
    """
    wanted = count(point.percent, len(heads))
    order = sorted(heads)
    if point.strategy == "random":
        random.Random(f"{seed} {point.draw}").shuffle(order)  # noqa: S311 - nothing secret
    elif point.strategy == "magnitude":
        order.sort(key=lambda head: (norms[head], head))
    elif point.strategy == "tv":
        order.sort(key=lambda head: (scores[head], head))
    elif point.strategy == "tv_highest":
        order.sort(key=lambda head: (-scores[head], head))
    return order[:wanted]


def weights_sha256(layers: Sequence[HeadLayer]) -> str:
    """SHA-256 over the bytes of every output projection."""
    import torch

    digest = hashlib.sha256()
    for layer in layers:
        weight = layer.module.weight.detach()
        digest.update(f"{layer.name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def pruned(layers: Sequence[HeadLayer], heads: Sequence[Head]) -> Iterator[dict[str, Any]]:
    """Switch `heads` off inside the block and restore their weights after it, whatever happened in it.

    Yields a dict that after the block holds `weights_sha256_before`, `_pruned` and `_after`. Raises InputError for
    packed weights or a head that is not there, and RestoreError where the weights afterwards are not those before.
    """
    import torch

    places = {layer.layer: layer for layer in layers}
    for head in heads:
        if head.layer not in places or not 0 <= head.head < places[head.layer].heads:
            raise InputError(f"the model has no head L{head.layer}H{head.head}", "score the heads of this checkpoint")
    check_dense(layers)
    told: dict[str, Any] = {"weights_sha256_before": weights_sha256(layers)}
    kept: list[tuple[Any, slice, Any]] = []
    try:
        with torch.inference_mode():
            for head in heads:
                layer = places[head.layer]
                weight, columns = layer.module.weight, layer.columns(head.head)
                kept.append((weight, columns, weight[:, columns].clone()))
                weight[:, columns] = 0
        told["weights_sha256_pruned"] = weights_sha256(layers)
        yield told
    finally:
        with torch.inference_mode():
            for weight, columns, values in kept:
                weight[:, columns] = values
    told["weights_sha256_after"] = weights_sha256(layers)
    if told["weights_sha256_after"] != told["weights_sha256_before"]:
        raise RestoreError(
            "the output projections are not what they were before heads were switched off",
            "run the same command again; if it comes back, the machine's memory is to be doubted",
        )


def check_dense(layers: Sequence[HeadLayer]) -> None:
    """Raise InputError where an output projection is packed: zero columns have no exact code in it."""
    for layer in layers:
        weight = getattr(layer.module, "weight", None)
        width = layer.heads * layer.head_dim
        if weight is None or not weight.is_floating_point() or weight.shape[-1] != width:
            raise InputError(
                f"{layer.name} is a {type(layer.module).__name__} with packed weights, whose columns cannot be zeroed "
                "and restored exactly",
                "prune the unquantized checkpoint, then quantize it",
            )


def removable_parameters(layers: Sequence[HeadLayer], heads: Sequence[Head], hidden_size: int) -> int:
    """Parameters that cutting `heads` out would free: their columns of o_proj and rows of q_proj, and rows of k_proj
    and v_proj where all query heads of a key/value head go.
    """
    gone = set(heads)
    total = 0
    for layer in layers:
        mine = [head for head in range(layer.heads) if Head(layer.layer, head) in gone]
        whole = [
            kv for kv in range(layer.kv_heads)
            if all(h in mine for h in range(layer.heads) if layer.kv_head(h) == kv)
        ]  # fmt: skip
        total += 2 * layer.head_dim * hidden_size * (len(mine) + len(whole))
    return total


_COLUMNS = {"tv_distance": "tv_distance", "tv_crossfit": "crossfit_general"}
"""What a study may prune by -> its column beside the record of `score_heads`."""


def scored_heads(layers: Sequence[HeadLayer], rows: Sequence[dict[str, Any]], score: str) -> dict[Head, float]:
    """Scores by head from a table of `score_heads`. Raises InputError where it is of another model's heads."""
    column = _COLUMNS[score]
    found = {Head(int(row["layer_idx"]), int(row["head_idx"])): float(row[column]) for row in rows}
    if sorted(found) != sorted(all_heads(list(layers))):
        raise InputError(
            f"the scores are of {len(found)} heads, and the model has {len(all_heads(list(layers)))}",
            "score the heads of this checkpoint (score_heads.py)",
        )
    return found

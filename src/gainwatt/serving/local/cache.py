"""Joining and thinning out key-value caches of shape (rows, heads, length, head size), layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Layers = list[tuple[Any, Any]]


def tensors_of(cache: Any) -> Layers:
    """Keys and values of each layer of a transformers cache (of version 4 and 5)."""
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return list(zip(cache.key_cache, cache.value_cache, strict=True))


def kv_bytes(layers: Layers) -> int:
    """Bytes of all keys and values."""
    return sum(part.numel() * part.element_size() for layer in layers for part in layer)


def join(cache: Any, mask: Any, other: Any, other_mask: Any) -> tuple[Any, Any]:
    """One cache with the rows of `cache` and then those of `other`; masks (rows, length) are joined likewise.

    The shorter one is padded on the left with zeros, which the mask hides.
    """
    import torch

    width = max(mask.shape[1], other_mask.shape[1])
    layers = [
        tuple(torch.cat([_widened(a, width), _widened(b, width)]) for a, b in zip(one, two, strict=True))
        for one, two in zip(tensors_of(cache), tensors_of(other), strict=True)
    ]
    masks = [torch.nn.functional.pad(part, (width - part.shape[1], 0)) for part in (mask, other_mask)]
    return _cache_of(layers), torch.cat(masks)


def keep(cache: Any, mask: Any, rows: Sequence[int]) -> tuple[Any, Any]:
    """The cache and mask of some of the rows, without columns that are padding in all of them."""
    import torch

    chosen = torch.tensor(list(rows), device=mask.device)
    mask = mask.index_select(0, chosen)
    begin = int(mask.any(dim=0).int().argmax())
    layers = [tuple(part.index_select(0, chosen)[:, :, begin:] for part in layer) for layer in tensors_of(cache)]
    return _cache_of(layers), mask[:, begin:]


def _widened(part: Any, width: int) -> Any:
    import torch

    return torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0))


def _cache_of(layers: Sequence[Any]) -> Any:
    from transformers import DynamicCache

    made = DynamicCache()
    for place, (keys, values) in enumerate(layers):
        made.update(keys, values, place)
    return made

"""Where a model's attention heads are: at the input of each output projection.

The input of `o_proj` is the concatenation of what the query heads computed, head_dim values each: head h owns values
[h · head_dim, (h + 1) · head_dim). After the projection the heads are mixed, and slices of its output belong to no
head. With grouped queries (GQA) several query heads share one key/value head; each query head has its own slice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gainwatt.errors import InputError

OUTPUT = "o_proj"
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class HeadLayer:
    """The heads of one attention layer; `name` is that of its output projection `module`."""

    name: str
    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    module: Any

    def columns(self, head: int) -> slice:
        """The input columns of the output projection that belong to a head."""
        return slice(head * self.head_dim, (head + 1) * self.head_dim)

    def kv_head(self, head: int) -> int:
        """The key/value head that a query head uses."""
        return head // (self.heads // self.kv_heads)


@dataclass(frozen=True, order=True)
class Head:
    """One query head."""

    layer: int
    head: int


def find_heads(model: Any) -> list[HeadLayer]:
    """The attention layers of a decoder in order. Raises InputError for an architecture without `o_proj`."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    prefix = next((f"{name}." for name, module in model.named_modules() if module is decoder and name), "")
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    modules = dict(model.named_modules())
    names = [name for name in modules if name.startswith(prefix) and name.rpartition(".")[2] == OUTPUT]
    if not names:
        raise InputError(
            f"{type(model).__name__} has no module called {OUTPUT}, so that its heads cannot be told apart",
            "heads are read where Qwen, Llama, Mistral, Gemma and their relatives have them: at the input of o_proj",
        )
    return [_layer(place, name, modules, config) for place, name in enumerate(names)]


def all_heads(layers: list[HeadLayer]) -> list[Head]:
    """Every head, layer by layer: the order of the last axis of what is read."""
    return [Head(layer.layer, head) for layer in layers for head in range(layer.heads)]


def _layer(place: int, name: str, modules: dict[str, Any], config: Any) -> HeadLayer:
    module, attention = modules[name], modules.get(name.rpartition(".")[0])
    width = getattr(module, "in_features", None)
    # Latent attention (MLA) has values of another width than its queries: v_head_dim is what reaches the projection.
    head_dim = getattr(attention, "v_head_dim", None) or getattr(attention, "head_dim", None)
    if head_dim is None and width is not None:
        head_dim = width // config.num_attention_heads
    if not isinstance(width, int) or not isinstance(head_dim, int) or head_dim < 1 or width % head_dim:
        raise InputError(
            f"the {type(module).__name__} {name} has {width} inputs, which are not heads of {head_dim}",
            "this architecture is not known here; report it with its config.json",
        )
    heads = width // head_dim
    groups = getattr(attention, "num_key_value_groups", None)
    kv_heads = heads // groups if isinstance(groups, int) and groups else getattr(config, "num_key_value_heads", heads)
    found = _LAYER.search(name)
    return HeadLayer(name, int(found[1]) if found else place, heads, kv_heads or heads, head_dim, module)

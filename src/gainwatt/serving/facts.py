"""What a server is made of: kernels, attention, graphs, and its memory in parts, each null with the reason."""

from __future__ import annotations

from typing import Any

from gainwatt.serving.adapters.base import FACTS, MEMORY_PARTS
from gainwatt.serving.spec import ServerSpec


def complete(spec: ServerSpec, found: dict[str, Any]) -> dict[str, Any]:
    """The facts of a server from what its adapter `found`, with every key there.

    Keys: `engine`, `scheme`, `dtype` and those of `adapters.base.FACTS`; `memory_mib` holds `weights`, `kv_cache` (the
    pool, or the largest so far where there is none), `activations` (largest beyond both) and `reserved` (what the
    engine holds of the device, used or not), which an engine may split further. `null_reasons` says for each null
    why, by dotted name. `how` says in words where a number comes from.
    """
    told = dict(found.get("null_reasons", {}))
    memory = dict.fromkeys(MEMORY_PARTS) | dict(found.get("memory_mib", {}))
    facts: dict[str, Any] = {
        "engine": spec.engine,
        "scheme": spec.scheme,
        "dtype": spec.compute_dtype,
        "prefix_cache": found.get("prefix_cache", spec.prefix_cache),
        "tensor_parallel": spec.tensor_parallel,
        "memory_fraction": spec.memory_fraction,
        "quantization_asked": spec.quantization,
        **{name: found.get(name) for name in FACTS},
        "memory_mib": memory,
    }
    facts |= {name: value for name, value in found.items() if name not in (*facts, "null_reasons")}
    unknown = [name for name in FACTS if facts[name] is None]
    unknown += [f"memory_mib.{part}" for part, value in memory.items() if value is None]
    facts["null_reasons"] = {name: told.get(name, f"{spec.engine} does not tell") for name in unknown}
    return facts

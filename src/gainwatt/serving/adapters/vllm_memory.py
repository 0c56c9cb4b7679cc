"""vLLM's account of its memory, its graphs and its quantization, read from its log (versions 0.25 to 0.32)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_GIB = r"([0-9.]+) GiB"
_LOADED = re.compile(rf"[Mm]odel loading took {_GIB}")
_POOL = re.compile(rf"Available KV cache memory: {_GIB}|kv cache memory in use is {_GIB}")
_DESIRED = re.compile(
    rf"Desired GPU memory utilization is \([0-9.]+, {_GIB}\)|Requested memory: [0-9.]+ \(util\), {_GIB}"
)
_ACTIVATION = re.compile(rf"{_GIB} for peak activation")
_NON_TORCH = re.compile(rf"{_GIB} for non-torch memory")
_GRAPHS = re.compile(rf"{_GIB} for CUDAGraph memory|Graph capturing finished in .* took {_GIB}")
_TOKENS = re.compile(r"KV cache size: ([0-9,]+) tokens")
_CONCURRENCY = re.compile(r"Maximum concurrency for ([0-9,]+) tokens per request: ([0-9.]+)x")
_MODE = re.compile(r"cudagraph_mode'?\"?[:=]\s*'?<?(?:CUDAGraphMode\.)?([A-Z_]+)")
_QUANTIZATION = re.compile(r"quantization=([\w-]+)")
MIB_PER_GIB = 1024.0


def memory(lines: Sequence[str]) -> dict[str, Any]:
    """`memory_mib` in parts (of one GPU, or of main memory), the pool's tokens, and how many requests fill it.

    `max_concurrency` requests of `max_model_len` tokens fill the pool; it has a fraction. vLLM's account holds in the
    moment of its start: `activations` are those of the largest batch that it allows itself.
    """
    parts = {
        "weights": _mib(_LOADED, lines), "kv_cache": _mib(_POOL, lines), "activations": _mib(_ACTIVATION, lines),
        "reserved": _mib(_DESIRED, lines), "non_torch": _mib(_NON_TORCH, lines), "cuda_graphs": _mib(_GRAPHS, lines),
    }  # fmt: skip
    tokens = _last(_TOKENS, lines)
    fits = _last(_CONCURRENCY, lines)
    found: dict[str, Any] = {
        "memory_mib": parts,
        "memory_scope": "one GPU (the last that reported)",
        "kv_cache_tokens": _number(tokens[1]) if tokens else None,
        "max_model_len": _number(fits[1]) if fits else None,
        "max_concurrency": float(fits[2]) if fits else None,
        "how": {f"memory_mib.{name}": "vLLM's log" for name in parts},
    }
    reasons = {f"memory_mib.{name}": "vLLM's log does not say" for name, value in parts.items() if value is None}
    reasons |= {
        name: "vLLM's log does not say"
        for name in ("kv_cache_tokens", "max_model_len", "max_concurrency")
        if found[name] is None
    }
    return found | {"null_reasons": reasons}


def graphs(lines: Sequence[str], *, eager: bool) -> dict[str, Any]:
    """`cuda_graphs`: the mode that vLLM names, e.g. FULL_AND_PIECEWISE; False where there are none."""
    mode = _last(_MODE, lines)
    if eager or (mode is not None and mode[1] == "NONE"):
        return {"cuda_graphs": False}
    return {"cuda_graphs": mode[1] if mode is not None else None}


def quantization(lines: Sequence[str]) -> str | None:
    """The method that vLLM loaded the checkpoint with; None where it is not quantized or not said."""
    found = _last(_QUANTIZATION, lines)
    return None if found is None or found[1] == "None" else found[1]


def _mib(pattern: re.Pattern[str], lines: Sequence[str]) -> float | None:
    found = _last(pattern, lines)
    if found is None:
        return None
    return float(next(group for group in found.groups() if group is not None)) * MIB_PER_GIB


def _last(pattern: re.Pattern[str], lines: Sequence[str]) -> re.Match[str] | None:
    return next((found for line in reversed(lines) if (found := pattern.search(line))), None)


def _number(text: str) -> int:
    return int(text.replace(",", ""))

"""How each engine is started as a server and what it tells of itself: one small adapter per engine."""

from __future__ import annotations

from gainwatt.serving.adapters.base import Adapter


def adapter_for(engine: str) -> Adapter:
    """The adapter of one of `gainwatt.serving.spec.ENGINES`."""
    if engine == "vllm":
        from gainwatt.serving.adapters.vllm import VllmAdapter

        return VllmAdapter()
    if engine == "llamacpp":
        from gainwatt.serving.adapters.llamacpp import LlamaCppAdapter

        return LlamaCppAdapter()
    from gainwatt.serving.adapters.transformers import TransformersAdapter

    return TransformersAdapter()

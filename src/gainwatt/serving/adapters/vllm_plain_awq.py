"""A plugin of vLLM that makes `--quantization awq` mean the plain AWQ kernel again, for measuring what it costs.

Up to about version 0.20, vLLM ran AWQ's own GEMM where `awq` was asked for, and Marlin for `awq_marlin`
(https://github.com/vllm-project/vllm/issues/21376 reports 23 against 123 tokens/s). Later versions take both words for
the same and choose the fastest kernel. Published figures of "AWQ" may be of the plain one, so it stays measurable.
"""

from __future__ import annotations

import importlib
from typing import Any


def register() -> None:
    """Called by vLLM in each of its processes. Does nothing in versions where the word still has its old meaning."""
    try:
        module: Any = importlib.import_module("vllm.model_executor.layers.quantization.auto_awq")
        method = module.AutoAWQLinearMethod
    except (ImportError, AttributeError):
        return
    if getattr(module, "gainwatt_plain", False):
        return
    module.gainwatt_plain = True
    module.check_marlin_supported = _unsupported
    create = method.create_weights
    told: list[bool] = []

    def create_weights(self: Any, *args: Any, **options: Any) -> Any:
        if not told:
            told.append(True)
            module.logger.info("Using AwqGemmKernel for AutoAWQLinearMethod")
        return create(self, *args, **options)

    method.create_weights = create_weights


def _unsupported(*args: Any, **options: Any) -> bool:
    return False

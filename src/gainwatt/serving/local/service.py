"""The loaded model, its batcher, and what the server tells of both."""

from __future__ import annotations

import time
from typing import Any

from gainwatt.engines.base import Request
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.serving.local.batch import Batcher

_HOW = {
    "memory_mib.weights": "bytes of all parameters and buffers",
    "memory_mib.kv_cache": "largest key-value cache of the batch so far",
    "memory_mib.activations": "peak of allocated memory less weights and cache",
    "memory_mib.reserved": "torch's caching allocator",
    "max_concurrency": "free GPU memory over the cache of max_model_len tokens; activations come on top",
}


def most_requests(free_bytes: float, token_bytes: float, context: int) -> float:
    """How many requests of `context` tokens fit into `free_bytes`, with a fraction."""
    return free_bytes / (token_bytes * context)


class Service:
    """Everything that requests need. `context` bounds prompt and answer together, in tokens."""

    def __init__(self, model: Any, tokenizer: Any, *, model_name: str, context: int, max_rows: int) -> None:
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.context = context
        self._created = int(time.time())
        self._engine = TransformersEngine(
            model, tokenizer, batch_size=max_rows, max_new_tokens=context, repetition_penalty=1.0
        )
        self.stop_ids = frozenset(self._engine.stop_ids)
        # Checkpoints that are decompressed at their first forward pass are so now, and not under the first request.
        self._engine.warm_up([Request(0, (int(tokenizer.eos_token_id or 0),))])
        self._kernels = self._loaded_kernels()
        self.batcher = Batcher(model, pad_id=int(tokenizer.pad_token_id), max_rows=max_rows)
        self.batcher.start()

    def models(self) -> dict[str, Any]:
        """The list of models: this one."""
        entry = {"id": self.model_name, "object": "model", "created": self._created, "owned_by": "gainwatt",
                 "max_model_len": self.context}  # fmt: skip
        return {"object": "list", "data": [entry]}

    def facts(self) -> dict[str, Any]:
        """What the server is made of, for `gainwatt.serving.facts`; memory in MiB, now and at the peak."""
        import transformers

        from gainwatt.modeling import memory_mib

        memory, reasons = self._memory()
        running, waiting = self.batcher.load()
        return {
            "engine_version": f"transformers {transformers.__version__}",
            "quantization_kernel": self._kernels,
            "attention_backend": self._engine.settings["attention"],
            "cuda_graphs": False,
            "max_model_len": self.context,
            "max_num_seqs": self.batcher.max_rows,
            "max_concurrency": self._fits(),
            "memory_mib": memory,
            "peak_rss_mib": memory_mib()["peak_rss_mib"],
            "peak_rows": self.batcher.peak_rows,
            "running": running,
            "waiting": waiting,
            "events": list(self.batcher.events),
            "null_reasons": reasons,
            "how": _HOW,
        }

    def _memory(self) -> tuple[dict[str, float | None], dict[str, str]]:
        """Memory in parts (MiB), and why a number is not there."""
        from gainwatt.modeling import memory_mib

        reasons = {
            "kv_cache_tokens": "the cache grows with the batch; there is no pool",
            "max_concurrency": "no GPU, or no request so far: the cache grows until memory ends",
        }
        weights = self._engine.memory().metrics["parameter_bytes"] / 2**20
        cache = self.batcher.peak_kv_bytes / 2**20
        now = memory_mib()
        peak = now["peak_allocated_mib"]
        memory: dict[str, float | None] = {"weights": weights, "kv_cache": cache, "reserved": now["reserved_mib"]}
        memory["activations"] = None if peak is None else max(0.0, peak - weights - cache)
        if peak is None:
            why = "no GPU: torch counts allocated memory on GPUs only"
            reasons |= {"memory_mib.activations": why, "memory_mib.reserved": why}
        return memory, reasons

    def _fits(self) -> float | None:
        """Requests of `context` tokens whose keys and values fill the GPU's free memory; None without a GPU."""
        import torch

        if not torch.cuda.is_available() or self.batcher.token_bytes == 0:
            return None
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return most_requests(free + self.batcher.kv_bytes, self.batcher.token_bytes, self.context)

    def _loaded_kernels(self) -> dict[str, int]:
        from gainwatt.modeling import linear_modules

        return linear_modules(self._engine.model)

    def close(self) -> None:
        """End the batcher and give the memory back."""
        self.batcher.close()
        self._engine.close()

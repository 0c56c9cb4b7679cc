"""An engine in this process for the offline loads: started, described in the words of a server's facts, ended."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from gainwatt.engines.base import Engine
from gainwatt.serving.adapters.base import Address
from gainwatt.serving.bench import Bench
from gainwatt.serving.facts import complete
from gainwatt.serving.spec import ServerSpec
from gainwatt.study.evaluation import Vllm
from gainwatt.study.serving_cells import Start

DISABLED = "VLLM_DISABLED_KERNELS"
_NOBODY = Address("http://127.0.0.1:9", {})


class InProcess:
    """The engine of one start. Raises what the engines raise where it does not come up."""

    def __init__(self, bench: Bench, start: Start) -> None:
        self._work = tempfile.TemporaryDirectory(prefix="gainwatt-engine-")
        self.spec: ServerSpec = bench.spec(start, None)
        self.engine: Engine | None = None
        self.startup_s: float | None = None
        began = time.monotonic()
        try:
            self.engine = self._start(bench, start)
            self.startup_s = time.monotonic() - began
        except BaseException:
            self._work.cleanup()
            raise

    def facts(self) -> dict[str, Any]:
        """What the engine is made of, as `gainwatt.serving.facts.complete` describes it, with nulls explained."""
        assert self.engine is not None  # noqa: S101 - it is running
        found = _vllm_facts(self.spec, self.engine) if self.spec.engine == "vllm" else _facts(self.spec, self.engine)
        return {**complete(self.spec, found), "startup_s": self.startup_s}

    def close(self) -> None:
        """End the engine. Safe to call twice."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()
        self._work.cleanup()

    def _start(self, bench: Bench, start: Start) -> Engine:
        if self.spec.engine == "vllm":
            return self._start_vllm(bench, start)
        if self.spec.engine == "llamacpp":
            from gainwatt.engines.llamacpp import LlamaCppEngine

            return LlamaCppEngine(
                bench.checkpoint, bench.scheme, bench.tokenizer, max_tokens=bench.max_tokens,
                max_new_tokens=bench.serve.max_new_tokens,
            )  # fmt: skip
        from gainwatt.engines.transformers import TransformersEngine
        from gainwatt.modeling import load_model

        trusted = bench.study.model.trust_remote_code
        model = load_model(bench.checkpoint, bench.scheme, bench.dtype, trust_remote_code=trusted)
        return TransformersEngine(
            model, bench.tokenizer, batch_size=1, max_new_tokens=bench.serve.max_new_tokens, repetition_penalty=1.0
        )

    def _start_vllm(self, bench: Bench, start: Start) -> Engine:
        from gainwatt.engines.vllm import VllmEngine
        from gainwatt.serving.adapters.vllm import VllmAdapter

        serve, spec = bench.serve, self.spec
        # The adapter knows which words and variables make vLLM tell of its memory and take the kernel asked for.
        like = VllmAdapter().start(spec, 0, Path(self._work.name))
        more: dict[str, Any] = {"quantization": spec.quantization} if spec.quantization else {}
        if serve.max_num_batched_tokens is not None:
            more["max_num_batched_tokens"] = serve.max_num_batched_tokens
        with forced(start.kernel), _environment(like.environment), _import_path(like.python_path):
            return VllmEngine(
                bench.checkpoint.folder,
                bench.tokenizer,
                dtype=bench.dtype,
                max_new_tokens=serve.max_new_tokens,
                max_model_tokens=bench.max_tokens,
                repetition_penalty=1.0,
                options=Vllm(
                    gpu_memory_utilization=serve.gpu_memory_utilization,
                    max_num_seqs=spec.max_num_seqs,
                    enforce_eager=serve.enforce_eager,
                    seed=serve.seed,
                ),
                trust_remote_code=bench.study.model.trust_remote_code,
                more=more,
            )


@contextlib.contextmanager
def forced(kernel: str | None) -> Iterator[None]:
    """Forbid vLLM the kernel that `no-NAME` names, in every process that is started inside the block."""
    with _environment({DISABLED: kernel.removeprefix("no-")} if kernel and kernel.startswith("no-") else {}):
        yield


@contextlib.contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _import_path(folders: Sequence[str]) -> Iterator[None]:
    """Import from `folders` too, here and in every process that is spawned or run inside the block.

    A spawned process takes this one's `sys.path` and pays no attention to PYTHONPATH.
    """
    before = list(sys.path)
    sys.path[:0] = folders
    known = filter(None, [os.environ.get("PYTHONPATH")])
    try:
        with _environment({"PYTHONPATH": os.pathsep.join([*folders, *known])} if folders else {}):
            yield
    finally:
        sys.path[:] = before


def _vllm_facts(spec: ServerSpec, engine: Any) -> dict[str, Any]:
    from gainwatt.serving.adapters.vllm import VllmAdapter

    found = VllmAdapter().facts(spec, engine.log_lines(), _NOBODY)
    settings = engine.settings
    found |= {
        "engine_version": settings["vllm_version"],
        "quantization": settings["quantization"],
        "max_num_seqs": settings["max_num_seqs"],
        "max_num_batched_tokens": settings["max_num_batched_tokens"],
    }
    found["kv_cache_tokens"] = found["kv_cache_tokens"] or engine.memory().metrics.get("kv_cache_tokens")
    reasons = found["null_reasons"]
    for name in [name for name in reasons if "." not in name and found.get(name) is not None]:
        del reasons[name]
    return found


def _facts(spec: ServerSpec, engine: Engine) -> dict[str, Any]:
    held, settings = engine.memory(), engine.settings
    stored = held.metrics.get("parameter_bytes")
    peak = held.metrics.get("peak_allocated_mib")
    reserved = _reserved_mib() if spec.engine == "transformers" else None
    joint = "cache and activations lie in one allocator: see peak_allocated"
    where = held.null_reasons.get("peak_allocated_mib", joint)
    reasons = {f"memory_mib.{name}": joint if peak is not None else where for name in ("kv_cache", "activations")}
    reasons |= {"memory_mib.reserved": where if peak is None else joint, "memory_mib.peak_allocated": where}
    reasons |= {"kv_cache_tokens": "the cache grows with the batch; there is no pool"}
    reasons |= dict.fromkeys(
        ("max_concurrency", "max_num_seqs"), "the load says how many answers are generated at once"
    )
    if spec.stored.dense:
        reasons |= dict.fromkeys(("quantization", "quantization_kernel"), "the scheme is not quantized")
    package = "llama_cpp_python" if spec.engine == "llamacpp" else spec.engine
    return {
        "engine_version": metadata.version(package),
        "quantization": None if spec.stored.dense else spec.stored.kind,
        "quantization_kernel": None if spec.stored.dense else settings.get("kernels"),
        "attention_backend": settings.get("attention"),
        "cuda_graphs": False,
        "max_model_len": spec.max_model_len,
        "memory_mib": {"weights": stored / 2**20 if stored else None, "peak_allocated": peak, "reserved": reserved},
        "null_reasons": reasons,
    }


def _reserved_mib() -> float | None:
    from gainwatt.modeling import memory_mib

    return memory_mib()["reserved_mib"]

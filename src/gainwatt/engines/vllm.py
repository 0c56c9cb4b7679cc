"""Greedy decoding with vLLM: requests join and leave a running batch, in a process of the engine's own."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gainwatt.engines import vllm_log
from gainwatt.engines.base import (
    Completion,
    EngineError,
    Memory,
    Request,
    Solved,
    in_batches,
    longest_first,
    make_completion,
    stop_token_ids,
)
from gainwatt.engines.output import TappedStderr
from gainwatt.engines.processes import alive, descendants, stop
from gainwatt.errors import InputError, UnavailableError
from gainwatt.study.evaluation import Vllm

WATCH_S = 1.0
SCORED_AT_ONCE = 256
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_NO_MEMORY_FIGURE = "vLLM reserves the share evaluate.vllm.gpu_memory_utilization of the GPU at the start"


class VllmEngine:
    """An `Engine` that vLLM runs in a child process; `close` ends that process and gives the GPU back."""

    batch_size: int | None = None

    def __init__(
        self,
        folder: Path,
        tokenizer: Any,
        *,
        dtype: str,
        max_new_tokens: int,
        max_model_tokens: int,
        repetition_penalty: float,
        options: Vllm,
        trust_remote_code: bool = False,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Start vLLM on the checkpoint in `folder`; `more` are further arguments of its own, e.g. a forced kernel.

        Raises UnavailableError where vLLM is not installed or does not know the checkpoint's quantization, MemoryError
        where memory does not suffice, InputError where vLLM cannot load the checkpoint.
        """
        self.tokenizer = tokenizer
        self.events: list[str] = []
        self.stop_ids = stop_token_ids(tokenizer)
        self._pinned: dict[str, Any] = {
            "n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "repetition_penalty": repetition_penalty, "max_tokens": max_new_tokens,
            "min_tokens": 0, "stop_token_ids": self.stop_ids, "stop": None, "ignore_eos": False,
            "skip_special_tokens": True,
        }  # fmt: skip
        self._started: dict[str, Any] = {
            "dtype": DTYPES[dtype], "max_model_len": max_model_tokens, "seed": options.seed,
            "gpu_memory_utilization": options.gpu_memory_utilization, "enforce_eager": options.enforce_eager,
            "tensor_parallel_size": options.tensor_parallel_size, "kv_cache_dtype": "auto",
            # The first answers would otherwise make the later ones cheaper, and a second run cheaper than the first.
            "enable_prefix_caching": False,
            # The checkpoint's own sampling fields and further stop tokens stay out.
            "generation_config": "vllm",
            **(more or {}),
        }  # fmt: skip
        if options.max_num_seqs is not None:
            self._started["max_num_seqs"] = options.max_num_seqs
        self._output = TappedStderr()
        self._children: dict[int, str] = {}
        self.llm: Any = None
        self._start(folder, trust_remote_code)
        self.settings = self._settings()

    def warm_up(self, requests: Sequence[Request], tokens: int = 4) -> None:
        """Generate a few tokens for the shortest prompts."""
        shortest = sorted(requests, key=lambda request: (len(request.token_ids), request.index))[:8]
        for _ in self._finished(shortest, self._params(max_tokens=tokens, min_tokens=tokens)):
            pass

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """All requests are handed over at once, longest first; what has finished is yielded every second."""
        yield from in_batches(self._completions(longest_first(requests)))

    def _completions(self, requests: list[Request]) -> Iterator[Completion | Exception]:
        """Every answer, and at the end the failure that stopped them."""
        try:
            for request, output in self._finished(requests, self._params()):
                tokens, latency_s = output.outputs[0].token_ids, _latency_s(output.metrics)
                yield make_completion(
                    self.tokenizer, self.stop_ids, request, tokens, latency_s=latency_s, batch_size=None
                )
        except Exception as error:  # noqa: BLE001 - raised once what had finished is handed out
            yield error

    def score(self, texts: Sequence[Solved]) -> Iterator[tuple[float, int]]:
        """Text by text, from vLLM's log-probabilities of the prompt's own tokens."""
        params = self._params(max_tokens=1, prompt_logprobs=0)
        for start in range(0, len(texts), SCORED_AT_ONCE):
            part = {text.index: text for text in texts[start : start + SCORED_AT_ONCE]}
            asked = [Request(text.index, text.token_ids) for text in part.values()]
            for request, output in self._finished(asked, params):
                begin = part[request.index].prompt_tokens
                places = range(begin, len(request.token_ids))
                found = [output.prompt_logprobs[place][request.token_ids[place]].logprob for place in places]
                yield -sum(found), len(found)

    def ignore_stops(self) -> None:
        """Generate `max_new_tokens` for every request, whatever comes: for benchmarks."""
        self.set_length(self._pinned["max_tokens"], fixed=True)

    def set_length(self, max_new_tokens: int, *, fixed: bool) -> None:
        """Generate at most, or exactly (`fixed`), this many tokens from now on."""
        self.stop_ids = [] if fixed else stop_token_ids(self.tokenizer)
        self._pinned.update(max_tokens=max_new_tokens, stop_token_ids=self.stop_ids, ignore_eos=fixed)
        self.settings.update(self._pinned)

    def log_lines(self) -> list[str]:
        """The last lines that vLLM has written: kernels and memory stand there and nowhere else."""
        return self._output.lines()

    def memory(self) -> Memory:
        """The room of the KV cache and, where vLLM's log tells, the weights; an allocation peak does not exist."""
        cache = self.llm.llm_engine.vllm_config.cache_config
        reasons = dict.fromkeys(
            ("parameter_bytes", "allocated_after_load_mib", "peak_allocated_mib"), _NO_MEMORY_FIGURE
        )
        found: dict[str, float | int] = {}
        if cache.num_gpu_blocks:
            found["kv_cache_tokens"] = cache.num_gpu_blocks * cache.block_size
        weights_gib = vllm_log.facts(self._output.lines())["weights_gib"]
        if weights_gib is None:
            reasons["weights_mib"] = "vLLM's log does not say"
        else:
            found["weights_mib"] = weights_gib * 1024
        return Memory(found, reasons)

    def close(self) -> None:
        """Shut vLLM down, and end whatever it has left running."""
        llm, self.llm = self.llm, None
        if llm is not None:
            self._children |= descendants(os.getpid())
            with contextlib.suppress(Exception):  # a dead engine cannot be asked to shut down
                llm.llm_engine.engine_core.shutdown()
            del llm
            gc.collect()
        left = stop(self._children)
        self._children = {}
        if left:
            self.events.append(f"processes of vLLM could not be ended: {left}")

    def _start(self, folder: Path, trust_remote_code: bool) -> None:
        # A forked child would inherit the threads and the open devices of the energy meter.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        before = descendants(os.getpid())
        try:
            with self._output:
                from vllm import LLM

                # Statistics of each request tell its latency.
                self.llm = LLM(
                    str(folder), trust_remote_code=trust_remote_code, disable_log_stats=False, **self._started
                )
        except BaseException as error:
            stop({pid: at for pid, at in descendants(os.getpid()).items() if pid not in before}, patience_s=5)
            if not isinstance(error, Exception):
                raise
            raise self._not_started(folder, error) from error
        self._children = {pid: at for pid, at in descendants(os.getpid()).items() if pid not in before}
        own = {pid: at for pid, at in descendants(os.getpid(), direct=True).items() if pid not in before}
        threading.Thread(target=self._watch, args=(self.llm, own), name="watch over vLLM", daemon=True).start()

    def _watch(self, llm: Any, own: dict[int, str]) -> None:
        """Wake whoever waits for answers of an engine process that was killed: vLLM's client would wait for good."""
        queue = getattr(llm.llm_engine.engine_core, "outputs_queue", None)
        while own and queue is not None and self.llm is llm:
            if len(alive(own)) < len(own):
                queue.put(EngineError("a process of vLLM was killed"))
                return
            time.sleep(WATCH_S)

    def _not_started(self, folder: Path, error: Exception) -> Exception:
        lines = self._last_lines(error)
        if isinstance(error, ImportError):
            return UnavailableError(
                f"vLLM cannot be imported: {error}",
                "make env NAME=vllm, and name the environment in resources.evaluate.environment",
            )
        memory = vllm_log.lack_of_memory(lines)
        if memory is not None or isinstance(error, MemoryError):
            return MemoryError(f"vLLM did not start: {memory or error}")
        if "Unknown quantization method" in str(error):
            return UnavailableError(
                f"this vLLM does not know the checkpoint's quantization: {str(error).splitlines()[-1].strip()[:300]}",
                "use the pinned environment (make env NAME=vllm), or evaluate.engine: transformers",
            )
        return InputError(
            f"vLLM cannot load the checkpoint in {folder}: {vllm_log.last_error(lines) or error}",
            "vLLM's own messages stand above; evaluate.engine: transformers is the other engine",
        )

    def _params(self, **changed: Any) -> Any:
        from vllm import SamplingParams

        # Text is decoded here, by the same rule for every engine.
        return SamplingParams(**{**self._pinned, "detokenize": False, **changed})

    def _finished(self, requests: Sequence[Request], params: Any) -> Iterator[tuple[Request, Any]]:
        """Each request with its output once it has finished; what is unfinished when the caller stops is dropped."""
        prompts = [{"prompt_token_ids": list(request.token_ids)} for request in requests]
        engine = self.llm.llm_engine
        names: list[str] = []
        try:
            names = self.llm.enqueue(prompts, params, use_tqdm=False) if prompts else []
            # An output bears the caller's part of the name that enqueue returned.
            waiting = {name.partition("-")[0]: request for name, request in zip(names, requests, strict=True)}
            while waiting:
                for output in engine.step():
                    if output.finished:
                        yield waiting.pop(output.request_id), output
        except GeneratorExit:
            with contextlib.suppress(Exception):
                engine.abort_request(names, internal=True)
            raise
        except Exception as error:
            raise self._died(error) from error

    def _died(self, error: Exception) -> Exception:
        """Out of memory is a result; anything else is the end of this run."""
        lines = self._last_lines(error)
        memory = vllm_log.lack_of_memory(lines)
        if memory is not None or isinstance(error, MemoryError):
            return MemoryError(f"vLLM ran out of memory: {memory or error}")
        why = vllm_log.last_error(lines) or f"{type(error).__name__}: {error}"
        return EngineError(f"the vLLM engine died: {why}", "its own messages stand above")

    def _last_lines(self, error: Exception) -> list[str]:
        self._output.settle()
        return [*self._output.lines(), *f"{type(error).__name__}: {error}".splitlines()]

    def _settings(self) -> dict[str, Any]:
        """Everything that was asked for, and what vLLM made of it where it can be asked."""
        import vllm

        config = self.llm.llm_engine.vllm_config
        facts = vllm_log.facts(self._output.lines())
        return {
            "engine": "vllm",
            "vllm_version": vllm.__version__,
            **self._pinned,
            **self._started,
            "batch_size": None,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "quantization": config.model_config.quantization,
            "kv_cache_dtype": str(config.cache_config.cache_dtype),
            "attention": facts["attention_backend"],
            "kernels": facts["kernels"],
        }


def _latency_s(metrics: Any) -> float | None:
    """Seconds from the start of the prefill to the last token, by the engine's own clock."""
    if metrics is None or not metrics.scheduled_ts or not metrics.last_token_ts:
        return None
    return float(metrics.last_token_ts - metrics.scheduled_ts)

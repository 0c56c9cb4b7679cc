"""Greedy decoding with llama.cpp: one prompt at a time, from the token ids of the checkpoint's own tokenizer.

An unquantized checkpoint is first written as GGUF in the scheme's type, so that one engine runs a whole matrix.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.base import (
    Completion,
    EngineError,
    Memory,
    Request,
    Solved,
    longest_first,
    make_completion,
    stop_token_ids,
)
from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import Scheme

FILE = "model.gguf"
_BATCH_TOKENS = 512


class LlamaCppEngine:
    """An `Engine` over a GGUF file. Layers go to a GPU where llama.cpp was built for one."""

    batch_size: int | None = 1

    def __init__(
        self, checkpoint: Checkpoint, scheme: Scheme, tokenizer: Any, *, max_tokens: int, max_new_tokens: int,
        repetition_penalty: float = 1.0,
    ) -> None:  # fmt: skip
        """`max_tokens` is the longest prompt and answer together.

        Raises UnavailableError without llama-cpp-python, InputError for a file that it cannot load and for a
        repetition penalty, which llama.cpp computes in another way than transformers.
        """
        if repetition_penalty != 1.0:
            raise InputError(
                f"evaluate.repetition_penalty = {repetition_penalty} is not the same thing in llama.cpp",
                "set it to 1.0 or use another engine",
            )
        try:
            import llama_cpp
        except ImportError as error:
            raise UnavailableError(
                f"the engine llamacpp needs llama-cpp-python: {error}",
                "run in the environment 'llamacpp' (make env NAME=llamacpp)",
            ) from error
        self._api = llama_cpp
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.stop_ids = stop_token_ids(tokenizer)
        self.events: list[str] = []
        threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        self.model: Any = self._load(checkpoint, scheme, max_tokens, threads)
        self.settings: dict[str, Any] = {
            "engine": "llamacpp",
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": repetition_penalty,
            "max_new_tokens": max_new_tokens,
            "stop_token_ids": self.stop_ids,
            "skip_special_tokens": True,
            "batch_size": 1,
            "threads": threads,
            "gpu_offload": bool(llama_cpp.llama_supports_gpu_offload()),
            "kernels": llama_cpp.llama_print_system_info().decode().strip(),
        }

    def _load(self, checkpoint: Checkpoint, scheme: Scheme, max_tokens: int, threads: int) -> Any:
        with tempfile.TemporaryDirectory(prefix="gainwatt-gguf-") as folder:
            file = checkpoint.folder / FILE
            if scheme.dense:
                from gainwatt.quantization.gguf_write import write_gguf

                file = Path(folder) / FILE
                # The name of the way to split text does not matter here: prompts come as token ids.
                write_gguf(checkpoint.folder, file, pre_tokenizer="qwen2", dtype=scheme.compute_dtype)
            try:
                return self._api.Llama(
                    str(file), n_ctx=max_tokens, n_batch=_BATCH_TOKENS, n_gpu_layers=-1, n_threads=threads,
                    n_threads_batch=threads, use_mmap=not scheme.dense, verbose=False,
                )  # fmt: skip
            except ValueError as error:
                raise InputError(f"llama.cpp cannot load {file}: {error}", "make the checkpoint again") from error

    def warm_up(self, requests: Sequence[Request]) -> None:
        """Generate a few tokens for the shortest prompt."""
        self._complete(min(requests, key=lambda request: len(request.token_ids)), 4)

    def set_length(self, max_new_tokens: int, *, fixed: bool) -> None:
        """Generate at most, or exactly (`fixed`), this many tokens from now on."""
        self.max_new_tokens = max_new_tokens
        self.stop_ids = [] if fixed else stop_token_ids(self.tokenizer)
        self.settings.update(max_new_tokens=max_new_tokens, stop_token_ids=self.stop_ids)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """One prompt after the other, longest first."""
        for request in longest_first(requests):
            yield [self._complete(request, self.max_new_tokens)]

    def _complete(self, request: Request, limit: int) -> Completion:
        started = time.monotonic()
        self._forget()
        found: list[int] = []
        try:
            for token in self.model.generate(list(request.token_ids), temp=0.0, top_k=1, repeat_penalty=1.0):
                found.append(int(token))
                if found[-1] in self.stop_ids or len(found) == limit:
                    break
        except RuntimeError as error:
            raise EngineError(f"llama.cpp failed at item {request.index}: {error}", "see the log above") from error
        seconds = time.monotonic() - started
        return make_completion(self.tokenizer, self.stop_ids, request, found, latency_s=seconds, batch_size=1)

    def score(self, texts: Sequence[Solved]) -> Iterator[tuple[float, int]]:
        """Text by text."""
        for text in texts:
            yield self._loss(text)

    def _loss(self, text: Solved) -> tuple[float, int]:
        """-Σ log p of the solution's tokens, and how many they are."""
        import numpy as np

        ids, total = text.token_ids, 0.0
        self._forget()
        batch = self._api.llama_batch_init(_BATCH_TOKENS, 0, 1)
        try:
            for first in range(0, len(ids) - 1, _BATCH_TOKENS):
                places = range(first, min(first + _BATCH_TOKENS, len(ids) - 1))
                self._decode(batch, ids, places, text)
                for place in places:
                    if place + 1 >= text.prompt_tokens:
                        pointer = self._api.llama_get_logits_ith(self.model.ctx, place - first)
                        logits = np.ctypeslib.as_array(pointer, (self.model.n_vocab(),)).astype(np.float64)
                        top = logits.max()
                        total += float(top + np.log(np.exp(logits - top).sum()) - logits[ids[place + 1]])
        finally:
            self._api.llama_batch_free(batch)
        self._forget()
        return total, len(ids) - text.prompt_tokens

    def _decode(self, batch: Any, ids: Sequence[int], places: range, text: Solved) -> None:
        batch.n_tokens = len(places)
        for row, place in enumerate(places):
            batch.token[row], batch.pos[row] = ids[place], place
            batch.seq_id[row][0], batch.n_seq_id[row] = 0, 1
            batch.logits[row] = place + 1 >= text.prompt_tokens
        code = self._api.llama_decode(self.model.ctx, batch)
        if code != 0:
            raise EngineError(f"llama.cpp failed at item {text.index} (code {code})", "see the log above")

    def _forget(self) -> None:
        """Empty the cache of keys and values."""
        self.model.reset()
        self._api.llama_memory_clear(self._api.llama_get_memory(self.model.ctx), True)

    def memory(self) -> Memory:
        """Bytes of the weights as llama.cpp counts them; it tells no peak."""
        size = int(self._api.llama_model_size(self.model.model))
        why = "llama.cpp tells no allocated memory; see peak_rss_mib"
        return Memory({"parameter_bytes": size}, dict.fromkeys(("allocated_after_load_mib", "peak_allocated_mib"), why))

    def close(self) -> None:
        """Give the memory back."""
        if self.model is not None:
            self.model.close()
            self.model = None

"""Greedy decoding with `transformers`: padded batches, longest prompts first, halved when memory runs out."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gainwatt.batches import warm_up
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
from gainwatt.oom import is_out_of_memory

Work = TypeVar("Work")
Done = TypeVar("Done")

WARM_UP_TOKENS = 16
LOGITS_BYTES = 2**30
"""Scoring takes as many texts at once as keep the logits of their solutions below this."""


class TransformersEngine:
    """An `Engine` over a loaded model and tokenizer."""

    batch_size: int | None

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int, max_new_tokens: int, repetition_penalty: float
    ) -> None:
        from transformers import GenerationConfig

        from gainwatt.modeling import linear_modules

        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.stop_ids = stop_token_ids(tokenizer)
        self.events: list[str] = []
        # A fresh configuration replaces the checkpoint's own: some instruct models ship a repetition penalty that
        # would apply to greedy decoding too.
        model.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            repetition_penalty=repetition_penalty,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.stop_ids,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            use_cache=True,
        )
        self.settings: dict[str, Any] = {
            "engine": "transformers",
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": repetition_penalty,
            "max_new_tokens": max_new_tokens,
            "stop_token_ids": self.stop_ids,
            "skip_special_tokens": True,
            "batch_size": batch_size,
            "attention": getattr(model.config, "_attn_implementation", None),
            "kernels": linear_modules(model),
        }
        self._after_load_mib = self._allocated_mib()

    def warm_up(self, requests: Sequence[Request], tokens: int = WARM_UP_TOKENS) -> None:
        """Generate a few tokens for the batches that `generate` begins and ends with: kernels are chosen by shape.

        Never more tokens than an answer may have: the context was checked for that many.
        """
        from gainwatt.modeling import reset_peak_memory

        most = min(tokens, self.max_new_tokens)
        try:
            warm_up(
                lambda batch: self._generated(batch, max_new_tokens=most), longest_first(requests), self.batch_size or 1
            )
        except Exception as error:
            if _gpu_failed(error):
                raise _dead(error) from error
            raise
        reset_peak_memory()
        self._after_load_mib = self._allocated_mib()

    def set_length(self, max_new_tokens: int, *, fixed: bool) -> None:
        """Generate at most, or exactly (`fixed`), this many tokens from now on."""
        self.max_new_tokens = max_new_tokens
        self.stop_ids = [] if fixed else stop_token_ids(self.tokenizer)
        self.model.generation_config.max_new_tokens = max_new_tokens
        self.model.generation_config.eos_token_id = self.stop_ids or None
        self.settings.update(max_new_tokens=max_new_tokens, stop_token_ids=self.stop_ids)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Batch by batch. A batch for which memory does not suffice is halved, and so are those after it."""

        def halved(size: int) -> None:
            self.batch_size = size

        size = self.batch_size or 1
        yield from self._in_batches(longest_first(requests), self._batch, size, halved, "generation")

    def score(self, texts: Sequence[Solved]) -> Iterator[tuple[float, int]]:
        """Batch by batch, halved like those of `generate`, with the logits of the solutions alone."""
        waiting = sorted(texts, key=lambda text: (-len(text.token_ids), text.index))
        if waiting:
            size = min(self.batch_size or 1, self._rows_within(LOGITS_BYTES, waiting))
            yield from self._in_batches(waiting, self._loss, size, lambda _: None, "reference loss")

    def memory(self) -> Memory:
        """Allocated memory after loading and at the peak since `warm_up`; GPUs only."""
        from gainwatt.modeling import NO_GPU_MEMORY, loaded_bytes, memory_mib

        parameters = loaded_bytes(self.model)
        peak = memory_mib()["peak_allocated_mib"]
        if self._after_load_mib is None or peak is None:
            names = ("allocated_after_load_mib", "peak_allocated_mib")
            return Memory({"parameter_bytes": parameters}, dict.fromkeys(names, NO_GPU_MEMORY))
        found = {"allocated_after_load_mib": self._after_load_mib, "peak_allocated_mib": peak}
        return Memory({"parameter_bytes": parameters, **found}, {})

    def close(self) -> None:
        """Forget the model and give its memory back."""
        import torch

        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _in_batches(
        self,
        waiting: Sequence[Work],
        work: Callable[[Sequence[Work]], Done],
        size: int,
        halved: Callable[[int], None],
        what: str,
    ) -> Iterator[Done]:
        """Call `work` on batches of at most `size`; `halved` is told each smaller size, `events` too."""
        import torch

        while waiting:
            batch = waiting[:size]
            done = None
            try:
                done = work(batch)
            except Exception as error:
                # Nothing may hold the exception while the batch is tried again: its frames hold the batch's tensors.
                if _gpu_failed(error):
                    raise _dead(error) from error
                if not is_out_of_memory(error) or len(batch) == 1:
                    raise
            if done is None:
                size = len(batch) // 2
                halved(size)
                self.events.append(f"{what}: out of memory at batch size {len(batch)}, halved to {size}")
                torch.cuda.empty_cache()
                continue
            waiting = waiting[len(batch) :]
            yield done

    def _batch(self, batch: Sequence[Request]) -> list[Completion]:
        started = time.monotonic()
        generated = self._generated(batch)
        seconds = time.monotonic() - started
        return [
            make_completion(self.tokenizer, self.stop_ids, r, tokens, latency_s=seconds, batch_size=len(batch))
            for r, tokens in zip(batch, generated, strict=True)
        ]

    def _generated(self, batch: Sequence[Request], **options: Any) -> list[list[int]]:
        """The new tokens of each request; `options` are those of transformers' `generate`."""
        import torch

        width = max(len(request.token_ids) for request in batch)
        pad, device = self.tokenizer.pad_token_id, self.model.device
        ids = torch.tensor([[pad] * (width - len(r.token_ids)) + list(r.token_ids) for r in batch])
        mask = torch.tensor([[0] * (width - len(r.token_ids)) + [1] * len(r.token_ids) for r in batch])
        with torch.inference_mode():
            out = self.model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), **options)
        found: list[list[int]] = out[:, width:].tolist()  # copying to the host waits for the device
        return found

    def _loss(self, batch: Sequence[Solved]) -> tuple[float, int]:
        """Summed loss of the batch's solutions. Padding stands on the right, where no token before it sees it."""
        import torch

        width = max(len(text.token_ids) for text in batch)
        first = min(text.prompt_tokens for text in batch) - 1
        pad, device = self.tokenizer.pad_token_id, self.model.device
        ids = torch.tensor([[*t.token_ids, *[pad] * (width - len(t.token_ids))] for t in batch], device=device)
        mask = torch.tensor([[1] * len(t.token_ids) + [0] * (width - len(t.token_ids)) for t in batch], device=device)
        keep: dict[str, Any] = {}
        if self._keeps_some_logits():
            keep["logits_to_keep"] = torch.arange(first, width - 1, device=device)
        loss, count = 0.0, 0
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **keep).logits
            start = first if keep else 0
            for row, text in enumerate(batch):
                begin, end = text.prompt_tokens, len(text.token_ids)
                # Row by row: with a large vocabulary an fp32 copy of the whole batch would not fit.
                found = logits[row, begin - 1 - start : end - 1 - start].float()
                loss += float(torch.nn.functional.cross_entropy(found, ids[row, begin:end], reduction="sum"))
                count += end - begin
        return loss, count

    def _keeps_some_logits(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def _rows_within(self, limit: int, texts: Sequence[Solved]) -> int:
        """Rows whose logits take at most `limit` bytes in the model's type; at least 1."""
        width = max(len(text.token_ids) for text in texts)
        first = min(text.prompt_tokens for text in texts) - 1 if self._keeps_some_logits() else 0
        vocabulary = self.model.config.get_text_config().vocab_size
        row = (width - first) * vocabulary * self.model.dtype.itemsize
        return max(1, limit // row)

    def _allocated_mib(self) -> float | None:
        from gainwatt.modeling import memory_mib

        return memory_mib()["allocated_mib"]


def _gpu_failed(error: Exception) -> bool:
    named = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    return named and not is_out_of_memory(error)


def _dead(error: Exception) -> EngineError:
    """After a CUDA error the process cannot use the GPU again."""
    return EngineError(
        f"the GPU failed: {str(error).splitlines()[0]}", "the system's log (dmesg, Xid) has the GPU's own message"
    )

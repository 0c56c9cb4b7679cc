"""Greedy decoding with `transformers`: padded batches, longest prompts first, halved when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from gainwatt.engines.base import Completion, Request, stop_token_ids


class TransformersEngine:
    """An `Engine` over a loaded model and tokenizer."""

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int, max_new_tokens: int, repetition_penalty: float
    ) -> None:
        from transformers import GenerationConfig

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
            "batch_size": batch_size,
            "attention": getattr(model.config, "_attn_implementation", None),
        }

    def warm_up(self, requests: Sequence[Request], tokens: int = 4) -> None:
        """Generate a few tokens for the shortest prompt, so that lazy loading and kernel set-up are not measured."""
        import torch

        request = min(requests, key=lambda found: len(found.token_ids))
        ids = torch.tensor([request.token_ids], device=self.model.device)
        with torch.inference_mode():
            self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Longest prompts first, so that a lack of memory shows in the first batch."""
        import torch

        waiting = sorted(requests, key=lambda request: (-len(request.token_ids), request.index))
        while waiting:
            batch = waiting[: self.batch_size]
            try:
                done = self._batch(batch)
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                done = None  # while the exception lives, its frames hold the batch's tensors
            if done is None:
                before, self.batch_size = self.batch_size, self.batch_size // 2
                self.events.append(f"out of memory at batch size {before}: halved to {self.batch_size}")
                torch.cuda.empty_cache()
                continue
            waiting = waiting[len(batch) :]
            yield done

    def _batch(self, batch: Sequence[Request]) -> list[Completion]:
        import torch

        width = max(len(request.token_ids) for request in batch)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(r.token_ids)) + list(r.token_ids) for r in batch])
        mask = torch.tensor([[0] * (width - len(r.token_ids)) + [1] * len(r.token_ids) for r in batch])
        device = self.model.device
        started = time.monotonic()
        with torch.inference_mode():
            out = self.model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
        generated = out[:, width:].tolist()  # copying to the host waits for the device
        seconds = time.monotonic() - started
        return [self._completion(r, tokens, seconds, len(batch)) for r, tokens in zip(batch, generated, strict=True)]

    def _completion(self, request: Request, tokens: list[int], seconds: float, batch_size: int) -> Completion:
        """Cut at the first stop token; what follows it is padding."""
        for position, token in enumerate(tokens):
            if token in self.stop_ids:
                text = self.tokenizer.decode(tokens[:position], skip_special_tokens=True)
                return Completion(request.index, text, position + 1, "stop", seconds, batch_size)
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(request.index, text, len(tokens), "length", seconds, batch_size)

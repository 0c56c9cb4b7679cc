"""The model's loss on windows of tokens: batches of equal lengths, halved when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from gainwatt.batches import warm_up
from gainwatt.oom import is_out_of_memory
from gainwatt.perplexity.windows import Encoded, Window

_POSITIONS = 256  # positions whose logits are copied to fp32 at once: 150 MB with a vocabulary of 150,000


class Scorer:
    """Sums of the negative log-likelihood of windows. `events` says where a batch had to be halved."""

    def __init__(self, model: Any, encoded: Encoded, *, batch_size: int, pad_token_id: int) -> None:
        self.model = model
        self.encoded = encoded
        self.batch_size = batch_size
        self.pad_token_id = pad_token_id
        self.events: list[str] = []

    def warm_up(self, windows: Sequence[Window]) -> None:
        """Score the batches with which `score` begins and ends, and forget the result."""
        warm_up(self._batch, _longest_first(windows), self.batch_size)

    def score(self, windows: Sequence[Window]) -> Iterator[tuple[dict[int, float], float]]:
        """Yield, batch by batch, the sum in nats by window index, and the seconds; longest windows first."""
        import torch

        waiting = _longest_first(windows)
        while waiting:
            batch = waiting[: self.batch_size]
            started = time.monotonic()
            try:
                sums: list[float] | None = self._batch(batch)
            except (RuntimeError, MemoryError) as error:
                if self.batch_size == 1 or not is_out_of_memory(error):
                    raise
                sums = None  # while the exception lives, its frames hold the batch's tensors
            if sums is None:
                before, self.batch_size = self.batch_size, self.batch_size // 2
                self.events.append(f"out of memory at batch size {before}: halved to {self.batch_size}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            waiting = waiting[len(batch) :]
            done = {window.index: nll for window, nll in zip(batch, sums, strict=True)}
            yield done, time.monotonic() - started

    def _batch(self, windows: Sequence[Window]) -> list[float]:
        import torch

        rows = [self.encoded.sequences[w.document][w.begin : w.end] for w in windows]
        width = max(len(row) for row in rows)
        device = self.model.device
        ids = torch.tensor([[*row, *[self.pad_token_id] * (width - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            return [
                self._sum(
                    logits[i, w.first - w.begin - 1 : w.end - w.begin - 1], ids[i, w.first - w.begin :][: w.tokens]
                )
                for i, w in enumerate(windows)
            ]

    @staticmethod
    def _sum(logits: Any, targets: Any) -> float:
        """Sum of the cross entropy in fp64; logits of shape (tokens, vocabulary), one target each."""
        import torch

        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for start in range(0, len(targets), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            losses = torch.nn.functional.cross_entropy(logits[part].float(), targets[part], reduction="none")
            total += losses.double().sum()
        return float(total)


def _longest_first(windows: Sequence[Window]) -> list[Window]:
    return sorted(windows, key=lambda window: (window.begin - window.end, window.index))

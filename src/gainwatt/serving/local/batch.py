"""Greedy decoding of many requests at once: they join a running batch after their own prefill, and leave when done.

The batch is left-padded. A request that joins is prefilled with the others that wait, and its keys and values are put
beside those of the batch, padded on the left to one length; the attention mask hides the padding. Rounding depends on
who shares the batch, as with every engine that batches.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.oom import is_out_of_memory
from gainwatt.serving.local.cache import join, keep, kv_bytes, tensors_of

PREFILL_TOKENS = 8192
"""Prompts are prefilled together as long as they hold fewer tokens than this, padding included."""


@dataclass(frozen=True)
class Ended:
    """The last thing that a request hears: `stop`, `length` or `error` with its `message`."""

    reason: str
    message: str = ""


@dataclass
class Work:
    """One request in the batcher; `heard` receives its tokens as they come, and an `Ended` at last."""

    prompt: tuple[int, ...]
    max_tokens: int
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    heard: queue.SimpleQueue[int | Ended] = field(default_factory=queue.SimpleQueue)
    made: int = 0
    left: bool = False
    """Set by whoever does not want to hear more."""


class Batcher:
    """Runs the model in a thread of its own. `max_rows` requests are worked on at once, the others wait in order."""

    def __init__(self, model: Any, *, pad_id: int, max_rows: int) -> None:
        self.model = model
        self.pad_id = pad_id
        self.max_rows = max_rows
        self.kv_bytes = 0
        self.peak_kv_bytes = 0
        self.token_bytes = 0.0
        """Bytes of one token's keys and values in all layers; 0 before the first request."""
        self.peak_rows = 0
        self.events: list[str] = []
        self._waiting: deque[Work] = deque()
        self._rows: list[Work] = []
        self._cache: Any = None
        self._mask: Any = None
        self._last: Any = None
        self._wake = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def add(self, work: Work) -> None:
        """Put a request at the end of the queue."""
        with self._wake:
            self._waiting.append(work)
            self._wake.notify()

    def load(self) -> tuple[int, int]:
        """Requests in the batch, and requests that wait."""
        return len(self._rows), len(self._waiting)

    def alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End after the current step; requests that are not done hear an error."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(30)

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                with self._wake:
                    while not (self._rows or self._waiting or self._ending):
                        self._wake.wait()
                    if self._ending:
                        break
                self._guarded(self._admit)
                if self._rows:
                    self._guarded(self._step)
        self._drop_all("the server is ending")

    def _guarded(self, act: Callable[[], None]) -> None:
        """A failure ends the requests in the batch; the next ones start with an empty one."""
        import torch

        message = None
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the thread must go on, and each request hears what happened
            kind = "out of memory" if is_out_of_memory(error) else type(error).__name__
            message = f"{kind}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        if message is not None:
            self.events.append(f"{len(self._rows)} requests failed: {message}")
            self._drop_all(message)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _drop_all(self, message: str) -> None:
        rows, self._rows = self._rows, []
        self._cache = self._mask = self._last = None
        for work in rows:
            work.heard.put(Ended("error", message))
        if self._ending:
            while self._waiting:
                self._waiting.popleft().heard.put(Ended("error", message))

    def _admit(self) -> None:
        """Prefill what waits and fits, and join it to the batch."""
        new = self._take()
        if not new:
            return
        old_rows = list(self._rows)
        self._rows = old_rows + new  # so that a failure is told to all of them
        cache, mask, logits = self._prefill(new)
        tokens = self._choose(logits, new)
        if old_rows:
            cache, mask = join(self._cache, self._mask, cache, mask)
            tokens = _concatenated(self._last, tokens)
        self._cache, self._mask, self._last = cache, mask, tokens
        self._tell(tokens[len(old_rows) :].tolist(), new)
        self._leave()

    def _take(self) -> list[Work]:
        new: list[Work] = []
        width = 0
        with self._wake:
            while self._waiting and len(self._rows) + len(new) < self.max_rows:
                width = max(width, len(self._waiting[0].prompt))
                if new and width * (len(new) + 1) > PREFILL_TOKENS:
                    break
                work = self._waiting.popleft()
                if not work.left:
                    new.append(work)
        return new

    def _prefill(self, new: Sequence[Work]) -> tuple[Any, Any, Any]:
        import torch
        from transformers import DynamicCache

        width = max(len(work.prompt) for work in new)
        device = self.model.device
        gaps = [width - len(work.prompt) for work in new]
        ids = [[self.pad_id] * gap + list(work.prompt) for gap, work in zip(gaps, new, strict=True)]
        mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps], device=device)
        out = self.model(
            input_ids=torch.tensor(ids, device=device), attention_mask=mask, position_ids=_positions(mask),
            past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        return out.past_key_values, mask, out.logits[:, -1]

    def _step(self) -> None:
        """One token for every request in the batch."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], dim=1)
        out = self.model(
            input_ids=self._last[:, None], attention_mask=self._mask, position_ids=_positions(self._mask)[:, -1:],
            past_key_values=self._cache, use_cache=True,
        )  # fmt: skip
        self._cache = out.past_key_values
        self._last = self._choose(out.logits[:, -1], self._rows)
        self._tell(self._last.tolist(), self._rows)
        self._leave()

    def _choose(self, logits: Any, rows: Sequence[Work]) -> Any:
        """The most likely token of each row; a stop token is none before `min_tokens`."""
        for row, work in enumerate(rows):
            if work.made < work.min_tokens and work.stop_ids:
                logits[row, list(work.stop_ids)] = float("-inf")
        return logits.argmax(dim=-1)

    def _tell(self, tokens: Sequence[int], rows: Sequence[Work]) -> None:
        for token, work in zip(tokens, rows, strict=True):
            work.made += 1
            work.heard.put(token)
            if token in work.stop_ids:
                work.heard.put(Ended("stop"))
                work.left = True
            elif work.made >= work.max_tokens:
                work.heard.put(Ended("length"))
                work.left = True

    def _leave(self) -> None:
        """Take those that are done out of the batch."""
        self.peak_rows = max(self.peak_rows, len(self._rows))
        self.kv_bytes = kv_bytes(tensors_of(self._cache))
        self.peak_kv_bytes = max(self.peak_kv_bytes, self.kv_bytes)
        self.token_bytes = self.kv_bytes / self._mask.numel()
        staying = [row for row, work in enumerate(self._rows) if not work.left]
        if len(staying) == len(self._rows):
            return
        self._rows = [self._rows[row] for row in staying]
        if not staying:
            self._cache = self._mask = self._last = None
            self.kv_bytes = 0
            return
        self._cache, self._mask = keep(self._cache, self._mask, staying)
        self._last = self._last[staying]


def _positions(mask: Any) -> Any:
    """Position of each token in its own text; padding gets 0, and nothing looks at it."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def _concatenated(one: Any, other: Any) -> Any:
    import torch

    return torch.cat([one, other])

"""The interface of an engine: requests in, batches of completions out, every sampling field in force on show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """One prompt, already through the chat template and tokenized without further special tokens."""

    index: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """What an engine generated for one request.

    `tokens` counts the stop token; `finish_reason` is `stop` (a stop token was generated) or `length`; `batch_s` is the
    wall time of the batch that the request was part of.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str
    batch_s: float
    batch_size: int


class Engine(Protocol):
    """Greedy generation for a list of requests."""

    settings: dict[str, Any]
    """Every sampling field in force."""
    events: list[str]
    """What happened on the way that a reader of the numbers should know, e.g. a batch halved for lack of memory."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield the completions batch by batch, in an order that the engine chooses."""
        ...


def stop_token_ids(tokenizer: Any) -> list[int]:
    """Ids that end an answer: the tokenizer's end token and the end-of-turn tokens of common chat templates."""
    vocabulary = tokenizer.get_vocab()
    names = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
    ids = {vocabulary[name] for name in names if name in vocabulary}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(ids)

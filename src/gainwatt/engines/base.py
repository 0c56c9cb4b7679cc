"""The interface of an engine: requests in, completions out as they finish, every sampling field in force on show."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gainwatt.errors import GainwattError

FLUSH_S = 1.0
"""Finished answers are handed out this often: a kill loses no more, and nothing waits for the disk."""


class EngineError(GainwattError):
    """The engine died while it worked; what was finished before is kept."""

    exit_code = 5


@dataclass(frozen=True)
class Request:
    """One prompt, already through the chat template and tokenized without further special tokens."""

    index: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Solved:
    """A prompt with its reference solution behind it; the first `prompt_tokens` of the ids are the prompt."""

    index: int
    prompt_tokens: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """What an engine generated for one request.

    `tokens` counts the stop token; `finish_reason` is `stop` (a stop token was generated) or `length`. `latency_s` is
    the time from the start of the work on this request to its last token: its batch's wall time where answers are
    generated in closed batches, its own time without the time in the queue where they join and leave a running
    batch; None where the engine does not tell. Latencies overlap: their sum is not the time that the engine took.
    `batch_size` is the number of requests in a closed batch, None in a running one.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str
    latency_s: float | None
    batch_size: int | None


@dataclass(frozen=True)
class Memory:
    """What an engine says about the memory that it holds: metrics, and for each absent one the reason."""

    metrics: dict[str, float | int]
    null_reasons: dict[str, str]


class Engine(Protocol):
    """Greedy generation for a list of requests, and the loss on given texts."""

    settings: dict[str, Any]
    """Every sampling field in force, and what the engine chose itself as far as it can be learnt."""
    events: list[str]
    """What happened on the way that a reader of the numbers should know, e.g. a batch halved for lack of memory."""
    batch_size: int | None
    """Requests per batch as they are now; None where requests join and leave a running batch."""

    def warm_up(self, requests: Sequence[Request]) -> None:
        """Do a little work, so that lazy loading and kernel set-up are not measured."""
        ...

    def set_length(self, max_new_tokens: int, *, fixed: bool) -> None:
        """Generate at most `max_new_tokens` from now on; `fixed`: exactly so many, whatever comes, for benchmarks."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions as they finish, some at a time, in an order that the engine chooses.

        Raises EngineError where the engine died, and MemoryError or torch.OutOfMemoryError for lack of memory.
        """
        ...

    def score(self, texts: Sequence[Solved]) -> Iterator[tuple[float, int]]:
        """Yield, text by text or batch by batch, the summed negative log-likelihood (nats) and count of the tokens."""
        ...

    def memory(self) -> Memory:
        """Memory of the weights and the peak so far, in MiB."""
        ...

    def close(self) -> None:
        """Give back memory and processes. Safe to call twice, and after a failure."""
        ...


def in_batches(finished: Iterable[Completion | Exception]) -> Iterator[list[Completion]]:
    """What finishes, about once a second; the first failure is raised once everything else was handed out."""
    done: list[Completion] = []
    failure: Exception | None = None
    flushed = time.monotonic()
    for found in finished:
        if isinstance(found, Exception):
            failure = failure or found
        else:
            done.append(found)
        if done and time.monotonic() - flushed >= FLUSH_S:
            yield done
            done, flushed = [], time.monotonic()
    if done:
        yield done
    if failure is not None:
        raise failure


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """The order in which requests are worked on: a lack of memory then shows at the start."""
    return sorted(requests, key=lambda request: (-len(request.token_ids), request.index))


def stop_token_ids(tokenizer: Any) -> list[int]:
    """Ids that end an answer: the tokenizer's end token and the end-of-turn tokens of common chat templates."""
    vocabulary = tokenizer.get_vocab()
    names = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
    ids = {vocabulary[name] for name in names if name in vocabulary}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(ids)


def make_completion(
    tokenizer: Any,
    stop_ids: Sequence[int],
    request: Request,
    tokens: Sequence[int],
    *,
    latency_s: float | None,
    batch_size: int | None,
) -> Completion:
    """Cut the generated ids at the first stop token and decode them; one rule for all engines.

    What follows a stop token in a padded batch is padding. The stop token is counted and not part of the text.
    """
    end = next((place for place, token in enumerate(tokens) if token in stop_ids), None)
    text = tokenizer.decode(list(tokens[:end]), skip_special_tokens=True)
    count, reason = (len(tokens), "length") if end is None else (end + 1, "stop")
    return Completion(request.index, text, count, reason, latency_s, batch_size)

"""What is asked of a server, what came back and when.

Times are nanoseconds of `time.monotonic_ns()`, the clock of the energy trace, so that joules and tokens of the same
window can be put side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COUNTED_BY = ("usage", "token_ids", "running_usage", "logprobs", "tokenizer", "chunks")
"""Where a number of generated tokens can come from, best first; see `RequestLog.tokens_from`."""


@dataclass(frozen=True)
class Request:
    """One completion to ask for.

    `prompt` is text, or token ids where the server takes them. `scheduled_s` is the time of sending in seconds after
    the start of the load (open loop); None: as soon as a slot is free (closed loop). `min_tokens` and `ignore_eos`
    are sent only where they are set, since not every server knows them.
    """

    id: int
    prompt: str | Sequence[int]
    max_tokens: int
    min_tokens: int | None = None
    ignore_eos: bool = False
    scheduled_s: float | None = None


@dataclass(frozen=True)
class Target:
    """Where to send: `base_url` ends in /v1, `model` is the name that the server knows, `headers` may hold the key.

    `extra` is added to the body of every request, e.g. {"repetition_penalty": 1.0}. With vLLM, {"return_token_ids":
    True} makes each chunk tell how many tokens it holds, at the price of larger chunks.
    """

    base_url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """When a load ends early. None switches a limit off.

    `max_error_share`: of all planned requests, so that the load ends once no good end can change the verdict.
    `max_errors`: failed requests. `max_errors_in_a_row`: failures without a success between them (a dead server).
    `max_in_flight`: requests under way at the same time. `max_s`: seconds since the start. `saturation_s`: in an open
    loop, end when over the last so many seconds both the requests under way and the time to first token kept growing
    (`gainwatt.serving.saturation`).
    """

    max_error_share: float | None = 0.01
    max_errors: int | None = None
    max_errors_in_a_row: int | None = None
    max_in_flight: int | None = None
    max_s: float | None = None
    saturation_s: float | None = None


@dataclass(frozen=True)
class Slo:
    """What a good request keeps, each limit in ms from the scheduled time; None: not asked for."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


@dataclass(slots=True)
class RequestLog:
    """What happened to one request.

    `scheduled_ns`: when it was to be sent; `sent_ns`: when its last byte was handed to the system; `chunk_ns`: arrival
    of each streamed chunk with a choice in it; `chunk_tokens`: tokens in each of them, None where the server does not
    say; `ended_ns`: end of the answer, or of the attempt.

    `tokens` is the number of generated tokens, and `tokens_from` says who counted: `usage` (the server, at the end),
    `token_ids` (ids in the chunks), `running_usage` (usage in each chunk), `logprobs` (tokens named in the chunks),
    `tokenizer` (the text, counted by the caller's function), or `chunks` (each taken for one token, an empty last one
    for none: a lower bound, since servers put several tokens into a chunk when they are busy).

    `status`: `ok`, `error`, or `unfinished` where the load ended first. `error_kind`: `refused`, `closed` (before an
    answer began), `cut` (in the middle of it), `timeout`, `http_<status>`, `malformed`, `server_error` (told in the
    stream), `no_socket`. `reused`: sent over a connection that had served another request.
    """

    id: int
    scheduled_ns: int
    sent_ns: int | None = None
    ended_ns: int | None = None
    chunk_ns: list[int] = field(default_factory=list)
    chunk_tokens: list[int] | None = None
    tokens: int | None = None
    tokens_from: str | None = None
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    status: str = "unfinished"
    error_kind: str | None = None
    error: str | None = None
    reused: bool = False

    @property
    def first_ns(self) -> int | None:
        """Arrival of the first chunk."""
        return self.chunk_ns[0] if self.chunk_ns else None

    @property
    def last_ns(self) -> int | None:
        """Arrival of the last chunk."""
        return self.chunk_ns[-1] if self.chunk_ns else None

    @property
    def slip_ms(self) -> float | None:
        """How much later than scheduled the request was sent."""
        return None if self.sent_ns is None else (self.sent_ns - self.scheduled_ns) / 1e6

    @property
    def ttft_ms(self) -> float | None:
        """Time to first token: from the SCHEDULED time to the first chunk.

        vLLM's `vllm bench serve` (vllm/benchmarks/lib/endpoint_request_func.py) counts from the time of sending: where
        the client or its queue is late, those milliseconds are missing there. `sent_ttft_ms` is that number.
        """
        return None if self.first_ns is None else (self.first_ns - self.scheduled_ns) / 1e6

    @property
    def sent_ttft_ms(self) -> float | None:
        """Time to first token from the time of sending, to compare with other tools."""
        return None if self.first_ns is None or self.sent_ns is None else (self.first_ns - self.sent_ns) / 1e6

    @property
    def e2e_ms(self) -> float | None:
        """From the scheduled time to the last chunk (as vllm bench: not to the end of the stream)."""
        return None if self.last_ns is None else (self.last_ns - self.scheduled_ns) / 1e6

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first: (last chunk − first chunk) / (tokens − 1).

        As in vllm bench (vllm/benchmarks/serve.py, calculate_metrics); guidellm calls it inter-token latency. None
        for fewer than two tokens.
        """
        if self.first_ns is None or self.last_ns is None or self.tokens is None or self.tokens < 2:
            return None
        return (self.last_ns - self.first_ns) / 1e6 / (self.tokens - 1)

    @property
    def itl_ms(self) -> list[float]:
        """Inter-token latencies: the gaps between chunks, as in vllm bench. A chunk may hold several tokens."""
        return [(after - before) / 1e6 for before, after in itertools.pairwise(self.chunk_ns)]


@dataclass(frozen=True)
class LoadResult:
    """A load as it was: one log per request that was due, in the order of their schedule.

    `planned`: requests asked for. `client_cpu_s`: CPU time of the thread that sent and received, preparation
    included. `slip_ms`: percentiles of sent − scheduled. `lag_ms`: percentiles of how long a chunk that was ready
    waited for the client to read it. `ended_early`: why requests are missing, else None.
    """

    log: list[RequestLog]
    started_ns: int
    ended_ns: int
    client_cpu_s: float
    slip_ms: dict[str, float | None]
    lag_ms: dict[str, float | None]
    planned: int
    concurrency: int | None
    in_flight_max: int
    ended_early: str | None

"""One streamed completion: what its events say goes into its log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gainwatt.serving.http import Response, StreamError
from gainwatt.serving.requests import RequestLog

# Half the time of json.loads, which first guesses the encoding of bytes and looks for blanks around the value.
_decode = json.JSONDecoder().raw_decode


class Stream:
    """Reads the answer to one request into `log`; `count_tokens` counts text where the server tells no number."""

    __slots__ = ("_count_tokens", "_counted", "_done", "_exact", "_running", "_text", "_usage", "log", "response")

    def __init__(self, log: RequestLog, count_tokens: Callable[[str], int] | None) -> None:
        self.log = log
        self.response = Response()
        self._count_tokens = count_tokens
        self._text: list[str] = []
        self._counted: list[int] = []
        self._exact: str | None = None  # who counts the tokens of the chunks; "" where one chunk was not counted
        self._running = 0
        self._usage: int | None = None
        self._done = False

    def feed(self, data: bytes, now_ns: int) -> None:
        """Bytes that arrived at `now_ns`. Raises StreamError."""
        for payload in self.response.feed(data):
            self._take(payload, now_ns)
        if self.response.status not in (None, 200) and self.response.finished:
            raise self._refusal()

    def close(self) -> None:
        """The server closed the connection. Raises StreamError where the answer is not whole."""
        if self.response.status not in (None, 200):
            raise self._refusal()
        self.response.close()

    def finish(self) -> None:
        """The answer is complete: count. Raises StreamError where it is no streamed completion."""
        log = self.log
        if not log.chunk_ns:
            kind = self.response.content_type or "no content type"
            raise StreamError("malformed", f"an answer of type {kind!r} without a single chunk of a completion")
        if not self._done and log.finish_reason is None:
            raise StreamError("malformed", "the stream ended with neither a finish reason nor [DONE]")
        self.count()

    def count(self) -> None:
        """Say how many tokens came, and who counted them; also for an answer that was cut."""
        log = self.log
        if self._exact:
            log.chunk_tokens = self._counted
        if self._usage is not None:
            log.tokens, log.tokens_from = self._usage, "usage"
        elif self._exact:
            log.tokens, log.tokens_from = sum(self._counted), self._exact
        elif self._count_tokens is not None and self._text:
            log.tokens, log.tokens_from = self._count_tokens("".join(self._text)), "tokenizer"
        elif log.chunk_ns:
            log.tokens, log.tokens_from = sum(self._counted), "chunks"
        self._text.clear()

    def _take(self, payload: bytes, now_ns: int) -> None:
        if payload == b"[DONE]":
            self._done = True
            return
        try:
            text = payload.decode().strip()
            event, end = _decode(text)
            if end != len(text):
                raise ValueError("more than one value")
            if event.get("error"):
                raise StreamError("server_error", json.dumps(event["error"])[:300])
            usage = event.get("usage")
            if event.get("choices"):
                self._chunk(event["choices"][0], usage, now_ns)
            elif usage:
                self._usage = int(usage["completion_tokens"])
            if usage and usage.get("prompt_tokens") is not None:
                self.log.prompt_tokens = int(usage["prompt_tokens"])
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            shown = payload[:120].decode("utf-8", "replace")
            raise StreamError("malformed", f"{type(error).__name__} in the event {shown!r}") from None

    def _chunk(self, choice: dict[str, Any], usage: dict[str, Any] | None, now_ns: int) -> None:
        text = choice.get("text") or ""
        number, source = self._tokens(choice, usage, text)
        self.log.chunk_ns.append(now_ns)
        self._counted.append(number)
        self._exact = source if self._exact in (None, source) else ""
        if text:
            self._text.append(text)
        if choice.get("finish_reason"):
            self.log.finish_reason = str(choice["finish_reason"])
            if usage:  # some servers tell the total with the last chunk instead of after it
                self._usage = int(usage["completion_tokens"])

    def _tokens(self, choice: dict[str, Any], usage: dict[str, Any] | None, text: str) -> tuple[int, str]:
        """How many tokens a chunk holds and who says so; "" where nobody does."""
        if (ids := choice.get("token_ids")) is not None:
            return len(ids), "token_ids"
        if usage:
            before, self._running = self._running, int(usage["completion_tokens"])
            return self._running - before, "running_usage"
        if (logprobs := choice.get("logprobs")) and logprobs.get("tokens") is not None:
            return len(logprobs["tokens"]), "logprobs"
        # Tokens without text of their own (special ones, halves of a letter) get a chunk too; a last chunk without
        # text may hold none.
        return (1 if text or not choice.get("finish_reason") else 0), ""

    def _refusal(self) -> StreamError:
        told = self.response.error_body.decode("utf-8", "replace").strip()
        return StreamError(f"http_{self.response.status}", told[:300] or "without a word")

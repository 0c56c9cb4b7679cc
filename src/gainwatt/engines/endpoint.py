"""Greedy decoding by a server that speaks OpenAI's completions API: the answers of what is really served.

Prompts go over as token ids, so that the served model reads exactly what the in-process engines read, and tokens come
back as ids where the server can (vLLM, this project's own), so that one rule cuts and decodes every engine's answers.
`batch_size` is the number of requests under way at once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving.ask import ask, ask_json

_ELSEWHERE = "the weights are in the server's process; see server_facts"


class RefusedError(EngineError):
    """The server answered, with an error."""


class EndpointEngine:
    """An `Engine` over a server's `base_url` (ending in /v1); `log` is the server's, where it is at hand.

    `on_close` ends a server that was started for this engine.
    """

    batch_size: int | None

    def __init__(
        self,
        base_url: str,
        model: str,
        tokenizer: Any,
        *,
        concurrency: int,
        max_new_tokens: int,
        repetition_penalty: float = 1.0,
        headers: Mapping[str, str] | None = None,
        facts: Callable[[], dict[str, Any]] | None = None,
        on_close: Callable[[], None] | None = None,
        log: Path | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        """Raises UnavailableError where nothing answers, InputError where the server does not have `model`."""
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = concurrency
        self.stop_ids = stop_token_ids(tokenizer)
        self.events: list[str] = []
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._facts = facts or (lambda: {})
        self.on_close = on_close
        self._hint = f"see the server's log {log}" if log is not None else "see the server's log"
        self._as_text = False
        # Every field that a server could choose for itself is sent.
        self._pinned: dict[str, Any] = {
            "model": model, "n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": repetition_penalty,
            "max_tokens": max_new_tokens, "min_tokens": 0, "stop_token_ids": self.stop_ids, "stop": None,
            "ignore_eos": False, "seed": 0, "skip_special_tokens": True, "stream": False, "return_token_ids": True,
        }  # fmt: skip
        self.settings: dict[str, Any] = self._settings(concurrency)
        # llama.cpp leaves the stop token out of its count, OpenAI's other servers count it.
        self._stop_uncounted = self.settings["server_facts"].get("engine") == "llamacpp"
        if self._stop_uncounted:
            # Its own name for the penalty; the server of llama-cpp-python would otherwise apply 1.1.
            self._pinned["repeat_penalty"] = self.settings["repeat_penalty"] = repetition_penalty

    def _settings(self, concurrency: int) -> dict[str, Any]:
        """Every field that is sent, and what the server tells of itself."""
        return {
            "engine": "endpoint",
            **{name: value for name, value in self._pinned.items() if name != "stream"},
            "batch_size": concurrency,
            "max_model_len": self._served_context(),
            "latency": "from sending a request to the last byte of its answer, the time in the server's queue included",
            "prompts_as_text": False,
            "server_facts": self._facts(),
        }

    def warm_up(self, requests: Sequence[Request], tokens: int = 4) -> None:
        """Generate a few tokens for the shortest prompt, and learn whether the server takes prompts in tokens."""
        shortest = min(requests, key=lambda request: len(request.token_ids))
        try:
            self._complete(shortest, max_tokens=tokens)
        except RefusedError as error:
            if self._as_text or "string" not in error.what:
                raise
            # llama-cpp-python's server reads text only. It must then find the same number of tokens in it.
            self._as_text = self.settings["prompts_as_text"] = True
            self.events.append("the server takes prompts as text, not as tokens")
            self._complete(shortest, max_tokens=tokens)

    def set_length(self, max_new_tokens: int, *, fixed: bool) -> None:
        """Generate at most, or exactly (`fixed`), this many tokens from now on."""
        self.stop_ids = [] if fixed else stop_token_ids(self.tokenizer)
        changed: dict[str, Any] = {
            "max_tokens": max_new_tokens, "min_tokens": max_new_tokens if fixed else 0, "ignore_eos": fixed,
            "stop_token_ids": self.stop_ids,
        }  # fmt: skip
        self._pinned.update(changed)
        self.settings.update(changed)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """`batch_size` requests at once, longest first; what has finished is yielded every second.

        Raises EngineError where the server fails or goes away, once what had finished is handed out.
        """
        waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        for request in longest_first(requests):
            waiting.put(request)
        finished: queue.SimpleQueue[Completion | Exception | None] = queue.SimpleQueue()
        ended = threading.Event()
        workers = [
            threading.Thread(target=self._work, args=(waiting, finished, ended), daemon=True)
            for _ in range(min(self.batch_size or 1, len(requests)))
        ]
        for worker in workers:
            worker.start()
        try:
            yield from _gathered(finished, len(workers))
        finally:
            ended.set()

    def score(self, texts: Sequence[Solved]) -> Iterator[tuple[float, int]]:
        """Text by text, from the log-probabilities of the prompt's own tokens; vLLM's server tells them.

        Raises UnavailableError for a server that does not.
        """
        for text in texts:
            asked = Request(text.index, text.token_ids)
            choice = self._ask(asked, max_tokens=1, prompt_logprobs=0)["choices"][0]
            told = choice.get("prompt_logprobs")
            if not told:
                raise UnavailableError("the server tells no log-probabilities of the prompt", "reference_nll: false")
            places = range(text.prompt_tokens, len(text.token_ids))
            yield -sum(told[place][str(text.token_ids[place])]["logprob"] for place in places), len(places)

    def memory(self) -> Memory:
        """What the server says of its memory."""
        parts = self._facts().get("memory_mib", {})
        found = {f"server_{name}_mib": value for name, value in parts.items() if value is not None}
        names = ("parameter_bytes", "allocated_after_load_mib", "peak_allocated_mib")
        return Memory(found, dict.fromkeys(names, _ELSEWHERE))

    def close(self) -> None:
        """End the server if it was started for this engine."""
        end, self.on_close = self.on_close, None
        if end is not None:
            end()

    def _served_context(self) -> int | None:
        """Longest prompt and answer together, where the server tells."""
        try:
            status, _ = ask(f"{self.base_url}/models", self._headers)
        except OSError as error:
            raise UnavailableError(
                f"nothing answers at {self.base_url}: {error}", "start it (scripts/serve.py), or check the address"
            ) from error
        if status == 401:
            raise InputError(f"{self.base_url} refuses the API key", "set GAINWATT_API_KEY to the server's own")
        listed = ask_json(f"{self.base_url}/models", self._headers)
        entries = listed.get("data", []) if isinstance(listed, dict) else []
        entry = next((entry for entry in entries if entry.get("id") == self.model), None)
        if entry is None:
            names = ", ".join(str(entry.get("id")) for entry in entries) or f"nothing (status {status})"
            raise InputError(f"{self.base_url} does not serve {self.model!r}; it serves {names}", "name one of these")
        limit = entry.get("max_model_len")
        return int(limit) if limit is not None else None

    def _work(
        self,
        waiting: queue.SimpleQueue[Request],
        finished: queue.SimpleQueue[Completion | Exception | None],
        ended: threading.Event,
    ) -> None:
        """One of `batch_size` threads: request after request, until none is left or one of them fails."""
        with contextlib.suppress(queue.Empty):
            while not ended.is_set():
                request = waiting.get_nowait()
                try:
                    finished.put(self._complete(request))
                except Exception as error:  # noqa: BLE001 - raised by the thread that reads `finished`
                    finished.put(error)
                    ended.set()
        finished.put(None)

    def _complete(self, request: Request, **changed: Any) -> Completion:
        started = time.monotonic()
        answer = self._ask(request, **changed)
        seconds = time.monotonic() - started
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            read, made = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            ids = choice.get("token_ids")
            text, reason = str(choice["text"]), str(choice["finish_reason"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(f"the server's answer to item {request.index} lacks {error}", self._hint) from error
        if read != len(request.token_ids):
            raise EngineError(
                f"the server read {read} tokens of item {request.index}, and was sent {len(request.token_ids)}",
                "it changes the prompt (a further start token?): its answers cannot be compared",
            )
        if ids is not None:
            return make_completion(
                self.tokenizer, self.stop_ids, request, ids, latency_s=seconds, batch_size=self.batch_size
            )
        stopped = reason == "stop"
        made += int(stopped and self._stop_uncounted)
        return Completion(request.index, text, made, "stop" if stopped else "length", seconds, self.batch_size)

    def _ask(self, request: Request, **changed: Any) -> dict[str, Any]:
        prompt: Any = list(request.token_ids)
        if self._as_text:
            prompt = self.tokenizer.decode(prompt, skip_special_tokens=False)
        body = {**self._pinned, "prompt": prompt, **changed}
        try:
            status, page = ask(f"{self.base_url}/completions", self._headers, body=body, timeout_s=self._timeout_s)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the server went away at item {request.index}: {error}", self._hint) from error
        if status != 200:
            said = " ".join(page.decode("utf-8", "replace").split())[:400]
            if "out of memory" in said.lower():
                raise MemoryError(f"the server ran out of memory at item {request.index}: {said}")
            raise RefusedError(f"the server refused item {request.index} ({status}): {said}", self._hint)
        try:
            found = json.loads(page)
        except ValueError as error:
            raise EngineError(f"the server's answer to item {request.index} is not JSON", self._hint) from error
        return found if isinstance(found, dict) else {}


def _gathered(finished: queue.SimpleQueue[Completion | Exception | None], workers: int) -> Iterator[list[Completion]]:
    """What the threads finish; each puts None when it has ended."""

    def until_all_ended() -> Iterator[Completion | Exception]:
        ended = 0
        while ended < workers:
            found = finished.get()
            if found is None:
                ended += 1
            else:
                yield found

    return in_batches(until_all_ended())

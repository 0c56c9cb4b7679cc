"""Closed batches through an engine in this process: windows of whole passes, each with prompts of its own.

    warm-up | pass pass | pass pass pass | ...      answers as long as the load says       -> phase `measure`
            | pass pass ...                          the same prompts' kind, one token each -> phase `prefill`

A pass is what one run of the load asks: 16 prompts one after the other, or four batches. A window repeats passes until
it is long enough for the energy counter. Reading the prompts alone tells prefill from decode: the first token of an
answer comes out of the prefill, so that a pass of one-token answers is the prefill and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gainwatt.engines.base import Completion, Engine, Request
from gainwatt.errors import UnavailableError
from gainwatt.job import Job
from gainwatt.serving.prompts import Ids, Prompts
from gainwatt.study.serving import Serve

MEASURE = "measure"
PREFILL = "prefill"


class Draw(Protocol):
    """Draws prompts; see `Prompts.draw`."""

    def __call__(self, count: int, purpose: str) -> list[Ids]:
        """`count` prompts for `purpose`."""
        ...


@dataclass
class OfflineWindow:
    """What one window did. `seconds` is the engine's time for all passes; latencies are per request and per batch."""

    passes: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cut: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    batches_s: list[float] = field(default_factory=list)


@dataclass
class OfflineRun:
    """All windows of one cell, in their order."""

    measure: list[OfflineWindow] = field(default_factory=list)
    prefill: list[OfflineWindow] = field(default_factory=list)


def prefill_windows(serve: Serve) -> int:
    """Windows of the prompts alone: half as many as of the whole load, whose spread is the one that is reported."""
    return max(1, serve.repeats // 2)


class Runner:
    """Runs one load on an engine, batch after batch."""

    def __init__(self, engine: Engine, prompts: Prompts, serve: Serve) -> None:
        """Raises UnavailableError where the engine answers one prompt at a time and the load wants more."""
        self.engine, self.prompts, self.serve = engine, prompts, serve
        self.batch = int(prompts.load.size or 1)
        offline = serve.offline
        assert offline is not None  # noqa: S101 - the load came from that section
        sequential = prompts.load.kind == "sequential"
        self.per_pass = offline.sequential_prompts if sequential else self.batch * offline.batches_per_pass
        if engine.batch_size is not None:
            if engine.settings["engine"] == "llamacpp" and self.batch > 1:
                raise UnavailableError(
                    "the engine llamacpp answers one prompt at a time in this process",
                    "measure its batches online, or with the project's profile of llama.cpp",
                )
            engine.batch_size = self.batch

    def run(self, job: Job, run: OfflineRun) -> None:
        """Warm up and measure every window; `run` holds what is finished, also where an exception ends it."""
        self.engine.set_length(self.prompts.new_tokens, fixed=self.prompts.fixed)
        with job.phase("warm_up"):
            pass_s = self._warm_up("warm-up")
        for repeat in range(self.serve.repeats):
            self._window(job, MEASURE, repeat, pass_s, run.measure)
        if not self.serve.split_phases:
            return
        self.engine.set_length(1, fixed=True)
        with job.phase("warm_up_prefill"):
            pass_s = self._warm_up("warm-up of the prefill")
        for repeat in range(prefill_windows(self.serve)):
            self._window(job, PREFILL, repeat, pass_s, run.prefill)

    def _warm_up(self, purpose: str) -> float:
        """Run some batches; returns the seconds that a pass will take, by the last of them."""
        seconds = 0.0
        for number in range(self.serve.warmup_batches):
            begin = time.monotonic()
            self._ask(self.prompts.draw(self.batch, f"{purpose} {number}"), OfflineWindow())
            seconds = time.monotonic() - begin
        return seconds * self.per_pass / self.batch

    def _window(self, job: Job, name: str, repeat: int, pass_s: float, into: list[OfflineWindow]) -> None:
        window = OfflineWindow()
        # Drawn before the window opens, as many as it will take by the warm-up's speed.
        likely = math.ceil(min(self.serve.window_s / pass_s, 50)) if pass_s > 0 else 1
        ready = [self._prompts(name, repeat, number) for number in range(max(1, likely))]
        with job.phase(name, short_ok=False):
            opened = time.monotonic()
            while not window.passes or time.monotonic() - opened < self.serve.window_s:
                known = window.passes < len(ready)
                prompts = ready[window.passes] if known else self._prompts(name, repeat, window.passes)
                for first in range(0, len(prompts), self.batch):
                    self._ask(prompts[first : first + self.batch], window)
                window.passes += 1
        into.append(window)

    def _prompts(self, name: str, repeat: int, number: int) -> list[Ids]:
        return self.prompts.draw(self.per_pass, f"{name} {repeat} {number}")

    def _ask(self, prompts: Sequence[Ids], window: OfflineWindow) -> None:
        requests = [Request(index, ids) for index, ids in enumerate(prompts)]
        begin = time.monotonic()
        done = [completion for part in self.engine.generate(requests) for completion in part]
        seconds = time.monotonic() - begin
        if self.engine.batch_size is not None and self.engine.batch_size < self.batch:
            raise MemoryError(f"out of memory at batch size {self.batch}")
        window.seconds += seconds
        window.batches_s.append(seconds)
        self._count(requests, done, window)

    def _count(self, requests: Sequence[Request], done: Sequence[Completion], window: OfflineWindow) -> None:
        window.requests += len(requests)
        window.prompt_tokens += sum(len(request.token_ids) for request in requests)
        window.generated_tokens += sum(completion.tokens for completion in done)
        window.cut += sum(completion.finish_reason == "length" for completion in done)
        window.latencies_s += [c.latency_s for c in done if c.latency_s is not None]

"""Loads on a server: closed loops, Poisson arrivals, and the search for the largest rate that is served well enough.

Every run of a load has requests of its own, starts on a server that is idle and remembers no prompt, and is logged
request by request. Joules come from the steady state of each run: see `gainwatt.serving.energy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gainwatt.errors import GainwattError
from gainwatt.job import Job
from gainwatt.serving.client import run_load
from gainwatt.serving.offline import prefill_windows
from gainwatt.serving.percentiles import summarise
from gainwatt.serving.prompts import Prompts
from gainwatt.serving.request_log import RequestJournal
from gainwatt.serving.requests import Limits, LoadResult, Request, Slo, Target
from gainwatt.serving.schedule import poisson_schedule
from gainwatt.serving.server import Server
from gainwatt.study.serving import Online, Serve
from gainwatt.unfinished import UnfinishedWork

MEASURE = "measure"
PREFILL = "prefill"
PROBE = "probe"
SATURATION_S = 20.0
"""An open loop ends when queue and time to first token kept growing for so long."""
DEAD_AFTER = 20
"""Failures without a success between them after which a server counts as dead."""
_TOO_MUCH = ("timeout", "http_429", "http_503")
# The server's own defaults stay out, whatever the checkpoint's configuration says.
PINNED: dict[str, Any] = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
VLLM_PINNED: dict[str, Any] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class CellFailedError(GainwattError):
    """A load could not be carried through; what was logged until then is kept."""

    exit_code = 5


@dataclass
class OnlineRun:
    """Every run of one cell: loads as measured, loads of one-token answers, and probed rates."""

    measure: list[LoadResult] = field(default_factory=list)
    prefill: list[LoadResult] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    cleanliness: list[dict[str, Any]] = field(default_factory=list)


class Probes(UnfinishedWork):
    """Rates that were tried already: a killed search goes on behind them."""

    def __init__(self, path: Path, identity: str) -> None:
        self.rows: list[dict[str, Any]] = []
        super().__init__(path, identity)

    def take(self, row: dict[str, Any]) -> None:
        """Take up one rate."""
        self.rows.append({"rate_per_s": float(row["rate_per_s"]), **row})


class Runner:
    """Runs one load on a server."""

    def __init__(
        self,
        server: Server,
        prompts: Prompts,
        serve: Serve,
        job: Job,
        journal: RequestJournal,
        clean: Callable[[], bool],
    ) -> None:
        """`clean` makes sure that the server remembers no earlier prompt."""
        assert serve.online is not None  # noqa: S101 - the load came from that section
        self.server, self.prompts, self.serve, self.job = server, prompts, serve, job
        self.online: Online = serve.online
        self.journal, self.clean = journal, clean
        extra = PINNED | (VLLM_PINNED if server.spec.engine == "vllm" else {})
        self.target = Target(server.base_url, server.model, server.headers, extra)
        self._ids = 0

    def run(self, run: OnlineRun) -> None:
        """Warm up, then measure; `run` holds what is finished, also where an exception ends it."""
        load = self.prompts.load
        if load.kind == "closed":
            self._closed(int(load.size or 1), run)
        elif load.kind == "poisson":
            self._poisson(float(load.size or 1.0), run)

    def search(self, run: OnlineRun, known: Probes) -> None:
        """Bisect for the largest rate that meets the service level; `known` are rates tried before a kill."""
        most = max(self.online.concurrency)
        run.probes = known.rows
        if not run.probes:
            self._warm_up(most)
            first = self._load(PROBE, self._requests(most * self.online.requests_per_client, "burst"), most, run)
            rate = summarise(first)["requests_per_s"]
            if rate is None:
                raise CellFailedError(f"no request of the first burst ended well: {first.ended_early}", "see the log")
            known.append({"rate_per_s": rate, "kind": "burst", "met": None})
        else:
            self._warm_up(most)
        ceiling = run.probes[0]["rate_per_s"]
        while len(run.probes) <= self.online.capacity_probes:
            rate = next_rate(run.probes, ceiling)
            known.append(self._probe(rate, len(run.probes), run))

    def _probe(self, rate: float, number: int, run: OnlineRun) -> dict[str, Any]:
        result = self._load(PROBE, self._timed(rate, f"probe {number}"), None, run)
        row = summarise(result, slo_of(self.online))
        met = result.ended_early is None and (row["slo_met_share"] or 0.0) >= self.online.slo.met_share
        kept = ("slo_met_share", "ttft_p50_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p99_ms", "requests", "completed")
        names = {name: row[name] for name in kept} | {"ended_early": result.ended_early}
        return {"rate_per_s": rate, "kind": "poisson", "met": met, **names}

    def _closed(self, clients: int, run: OnlineRun) -> None:
        self._warm_up(clients)
        count = clients * self.online.requests_per_client
        for repeat in range(self.serve.repeats):
            run.measure.append(self._load(MEASURE, self._requests(count, f"repeat {repeat}"), clients, run))
        if self.serve.split_phases:
            for repeat in range(prefill_windows(self.serve)):
                requests = self._requests(count, f"prefill {repeat}", alone=True)
                run.prefill.append(self._load(PREFILL, requests, clients, run))

    def _poisson(self, rate: float, run: OnlineRun) -> None:
        self._warm_up(min(8, self.online.requests_per_rate))
        for repeat in range(self.serve.repeats):
            run.measure.append(self._load(MEASURE, self._timed(rate, f"repeat {repeat}"), None, run))

    def _warm_up(self, clients: int) -> None:
        if not self.serve.warmup_batches:
            return
        requests = self._requests(clients * self.serve.warmup_batches, "warm-up")
        with self.job.phase("warm_up"):
            self._send(requests, clients, Limits(max_errors_in_a_row=DEAD_AFTER, max_error_share=None))

    def _load(self, phase: str, requests: list[Request], clients: int | None, run: OnlineRun) -> LoadResult:
        """One run of the load on a clean server. Raises CellFailedError where it could not be carried through."""
        clean, before = self.clean(), self.server.prefix_hits()
        with self.job.phase(phase, short_ok=False):
            result = self._send(requests, clients, self._limits(clients))
        run.cleanliness.append({"cleaned": clean, **hit_rate(before, self.server.prefix_hits())})
        saturated = clients is None and (result.ended_early or "").startswith("saturated")
        missed = clients is None and phase == PROBE and overloaded(result)
        if result.ended_early and not (saturated or missed):
            if phase == MEASURE:
                run.measure.append(result)
            raise CellFailedError(result.ended_early, f"the end of the server's log:\n{self.server.log_tail(8)}")
        return result

    def _limits(self, clients: int | None) -> Limits:
        return Limits(
            max_error_share=self.online.error_share_max,
            max_errors_in_a_row=DEAD_AFTER,
            saturation_s=SATURATION_S if clients is None else None,
        )

    def _send(self, requests: Sequence[Request], clients: int | None, limits: Limits) -> LoadResult:
        return run_load(
            self.target, requests, concurrency=clients, timeout_s=self.online.timeout_s, stop_when=limits,
            on_event=self.journal.on_event,
        )  # fmt: skip

    def _requests(self, count: int, purpose: str, *, alone: bool = False) -> list[Request]:
        """Requests that are sent as soon as a client is free; `alone`: the prompt with an answer of one token."""
        tokens = 1 if alone else self.prompts.new_tokens
        fixed = alone or self.prompts.fixed
        made = []
        for ids in self.prompts.draw(count, purpose):
            self._ids += 1
            made.append(Request(self._ids, ids, tokens, tokens if fixed else None, fixed))
        return made

    def _timed(self, rate: float, purpose: str) -> list[Request]:
        requests = self._requests(self.online.requests_per_rate, purpose)
        named = f"{self.serve.seed} {self.prompts.load.name} {purpose}"
        seed = int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")
        times = poisson_schedule(rate, len(requests), seed)
        return [
            Request(r.id, r.prompt, r.max_tokens, r.min_tokens, r.ignore_eos, at)
            for r, at in zip(requests, times, strict=True)
        ]


def overloaded(result: LoadResult) -> bool:
    """Whether requests failed only because the server was too slow or refused more work, and others ended well."""
    failed = [row.error_kind for row in result.log if row.status == "error"]
    return all(kind in _TOO_MUCH for kind in failed) and any(row.status == "ok" for row in result.log)


def slo_of(online: Online) -> Slo:
    """The study's service level as the client counts it."""
    return Slo(ttft_ms=online.slo.ttft_ms, tpot_ms=online.slo.tpot_ms, e2e_ms=online.slo.e2e_ms)


def next_rate(probes: Sequence[dict[str, Any]], ceiling: float) -> float:
    """The rate to try next: half of what a full burst reached, then between the largest met and the smallest missed.

    Where even the burst's own rate is met the search goes on above it, by a quarter each time.
    """
    tried = [probe for probe in probes if probe["met"] is not None]
    if not tried:
        return ceiling / 2
    met = [probe["rate_per_s"] for probe in tried if probe["met"]]
    missed = [probe["rate_per_s"] for probe in tried if not probe["met"]]
    low = max(met, default=0.0)
    if missed:
        return (low + min(missed)) / 2
    return ceiling if low < ceiling else low * 1.25


def capacity(probes: Sequence[dict[str, Any]]) -> tuple[float | None, float | None]:
    """(largest rate that met the service level, smallest that missed it) of a search; None where there is none.

    Noise may let a rate pass above one that failed: a rate counts as carried only below every one that failed.
    """
    missed = min((p["rate_per_s"] for p in probes if p["met"] is False), default=None)
    met = [p["rate_per_s"] for p in probes if p["met"] and (missed is None or p["rate_per_s"] < missed)]
    return max(met, default=None), missed


def hit_rate(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, Any]:
    """Prompt tokens looked up in and found in the cache of earlier prompts between two readings; nulls if unknown."""
    if before is None or after is None:
        return {"queries": None, "hits": None}
    return {name: after[name] - before[name] for name in ("queries", "hits")}

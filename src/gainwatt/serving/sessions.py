"""A started engine and the cells that are measured on it: in this process, or as a server of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

from gainwatt.energy.protocol import ArmResult
from gainwatt.engines.base import EngineError
from gainwatt.job import Job
from gainwatt.schemes import get_scheme
from gainwatt.serving import gpu_memory
from gainwatt.serving.bench import Bench
from gainwatt.serving.columns import facts_numbers, offline_numbers, tell
from gainwatt.serving.energy import Idle, Numbers
from gainwatt.serving.in_process import InProcess, forced
from gainwatt.serving.offline import OfflineRun
from gainwatt.serving.offline import Runner as OfflineRunner
from gainwatt.serving.online import CellFailedError, OnlineRun, Probes
from gainwatt.serving.online import Runner as OnlineRunner
from gainwatt.serving.online_columns import capacity_numbers, online_numbers
from gainwatt.serving.prompts import Prompts
from gainwatt.serving.request_log import RequestJournal, write_request_log
from gainwatt.serving.requests import LoadResult
from gainwatt.serving.server import Server, serve
from gainwatt.study.serving_cells import Load, Start
from gainwatt.workflow import find_interpreter


class Session(Protocol):
    """One start of an engine. `stopped` says how it ended, once it is closed: see `gainwatt.serving.server.Server`."""

    stopped: dict[str, Any]

    def start(self) -> None:
        """Bring the engine up. Raises what keeps it from coming up."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it is made of."""
        ...

    def measure(self, job: Job, load: Load, idle: Idle) -> None:
        """Run one load and fill the record, also where it fails on the way."""
        ...

    def usable(self) -> bool:
        """Whether another load can be run on it."""
        ...

    def close(self) -> None:
        """End it. Safe to call twice."""
        ...


class OfflineSession:
    """An engine in this process."""

    def __init__(self, bench: Bench, start: Start) -> None:
        self.bench, self._start = bench, start
        self._running: InProcess | None = None
        self._before = gpu_memory.GpuMemory(reason="it was not started")
        self.stopped: dict[str, Any] = {}

    def start(self) -> None:
        """See `Session`."""
        self._before = gpu_memory.in_use()
        self._running = InProcess(self.bench, self._start)

    def facts(self) -> dict[str, Any]:
        """See `Session`."""
        assert self._running is not None  # noqa: S101 - called on a started session
        return self._running.facts()

    def measure(self, job: Job, load: Load, idle: Idle) -> None:
        """See `Session`. An engine that dies leaves a record that says so, with the windows that were finished."""
        assert self._running is not None  # noqa: S101 - called on a started session
        engine = self._running.engine
        assert engine is not None  # noqa: S101
        prompts = Prompts(self.bench.source, self.bench.serve, load)
        run = OfflineRun()
        try:
            OfflineRunner(engine, prompts, self.bench.serve).run(job, run)
        except EngineError as error:
            job.status, job.reason = "failed", error.what
            self._running.engine = None
            engine.close()
        finally:
            facts = _safe_facts(self)
            weights = weight_bytes(facts, self.bench)
            batch = int(load.size or 1)
            found, spread = offline_numbers(
                run, job.phases(), idle, self.bench.roofs, batch=batch, weight_bytes=weights
            )
            _describe(job, self.bench, load, found, spread, prompts, facts)
            job.settings["effective"] = {**engine.settings, "dtype": self.bench.dtype, "batch_size": batch}

    def usable(self) -> bool:
        """See `Session`."""
        return self._running is not None and self._running.engine is not None

    def close(self) -> None:
        """See `Session`."""
        running, self._running = self._running, None
        if running is None:
            return
        loaded = gpu_memory.in_use()
        running.close()
        if self.bench.serve.engine == "vllm":  # the other engines leave this process's own context on the board
            self.stopped = gpu_memory.came_back(self._before, loaded)


class OnlineSession:
    """A server of its own process group, and its log beside those of the rules."""

    def __init__(self, bench: Bench, start: Start) -> None:
        self.bench, self._start = bench, start
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self.stopped: dict[str, Any] = {}

    def start(self) -> None:
        """See `Session`."""
        online = self.bench.serve.online
        assert online is not None  # noqa: S101 - the loads came from that section
        loader = get_scheme(self.bench.cell.scheme).loader(self.bench.serve.engine)
        named = self.bench.study.environments
        python = (
            find_interpreter(self.bench.study, loader.environment) if loader and loader.environment in named else None
        )
        spec, log = self.bench.spec(self._start, python), self.bench.logs / f"{self._start.name}.log"
        with forced(self._start.kernel):
            self._server = self._stack.enter_context(serve(spec, log=log, ready_s=online.ready_s))

    def facts(self) -> dict[str, Any]:
        """See `Session`."""
        assert self._server is not None  # noqa: S101 - called on a started session
        return {**self._server.facts, "startup_s": self._server.startup_s}

    def measure(self, job: Job, load: Load, idle: Idle) -> None:
        """See `Session`. Every request stands in the file `.requests.parquet` beside the record."""
        server, online = self._server, self.bench.serve.online
        assert server is not None  # noqa: S101 - called on a started session
        assert online is not None  # noqa: S101
        name = self._start.record_name(load)
        identity = self.bench.identity(name)
        journal = RequestJournal(self.bench.work / name / "requests.jsonl", identity)
        probes = Probes(self.bench.work / name / "probes.jsonl", identity)
        prompts = Prompts(self.bench.source, self.bench.serve, load)
        runner, run = OnlineRunner(server, prompts, self.bench.serve, job, journal, self._clean), OnlineRun()
        try:
            if load.kind == "capacity":
                runner.search(run, probes)
            else:
                runner.run(run)
        except CellFailedError as error:
            job.status, job.reason = "failed", f"{error.what}; {error.hint}"
        finally:
            journal.close()
            length = {"max_tokens": prompts.new_tokens, "ignore_eos": prompts.fixed, "dtype": self.bench.dtype}
            job.settings["effective"] = {"temperature": 0, **runner.target.extra, **length}
            facts = _safe_facts(self)
            self._fill(job, load, run, idle, prompts, facts)
            job.metrics["earlier_attempt_requests"] = len(journal.earlier)
            _write_log(job, self.bench.record(name), run)
            job.on_written(journal.remove)
            job.on_written(probes.remove)

    def usable(self) -> bool:
        """See `Session`."""
        return self._server is not None and self._server.alive()

    def close(self) -> None:
        """See `Session`."""
        self._stack.close()
        if self._server is not None:
            self.stopped = self._server.stopped
        self._server = None

    def _fill(self, job: Job, load: Load, run: OnlineRun, idle: Idle, prompts: Prompts, facts: dict[str, Any]) -> None:
        online = self.bench.serve.online
        assert online is not None  # noqa: S101
        spread: ArmResult | None = None
        if load.kind == "capacity":
            found = capacity_numbers(run, online)
        else:
            weights = weight_bytes(facts, self.bench)
            found, spread = online_numbers(
                run, load, online, idle, self.bench.roofs, job.energy_between, weight_bytes=weights
            )
        _describe(job, self.bench, load, found, spread, prompts, facts)
        early = sorted({result.ended_early for result in run.measure if result.ended_early})
        job.settings["ended_early"] = early
        job.metrics["saturated"] = any(text.startswith("saturated") for text in early)

    def _clean(self) -> bool:
        """Make sure that the server remembers no earlier prompt; True where it says so."""
        return self._server is not None and self._server.reset_prefix_cache()


def session_of(bench: Bench, start: Start) -> OfflineSession | OnlineSession:
    """The session for a start's mode."""
    return OfflineSession(bench, start) if start.mode == "offline" else OnlineSession(bench, start)


def weight_bytes(facts: dict[str, Any], bench: Bench) -> float:
    """Bytes of the weights in memory, where the engine tells them, else as they are stored."""
    held = facts["memory_mib"].get("weights") if facts else None
    return held * 2**20 if held else float(bench.checkpoint.weight_bytes)


def board_memory() -> tuple[float | None, str | None]:
    """MiB in use on the fullest GPU, over all processes, or None with the reason."""
    used = gpu_memory.in_use()
    return max(used.used_mib.values(), default=None), used.reason


def _safe_facts(session: Session) -> dict[str, Any]:
    """The facts of a session that may just have died; empty where it cannot be asked any more."""
    try:
        return session.facts()
    except Exception:  # noqa: BLE001 - whatever a dead engine raises, the record is written with what is known
        return {}


def _describe(
    job: Job,
    bench: Bench,
    load: Load,
    found: Numbers,
    spread: ArmResult | None,
    prompts: Prompts,
    facts: dict[str, Any],
) -> None:
    if facts:
        job.settings["facts"] = facts
        tell(job.metrics, job.null_reasons, facts_numbers(facts, facts.get("startup_s"), *board_memory()))
    tell(job.metrics, job.null_reasons, found)
    job.add_input("prompts", prompts.sha256, drawn=prompts.drawn, lengths=load.lengths)
    limits = bench.roofs.limits
    job.settings |= {"limits": limits.as_dict() if limits else None, "limits_reason": bench.roofs.reason}
    if spread is not None:
        job.settings["protocol"] = spread.as_dict()


def _write_log(job: Job, record: Path, run: OnlineRun) -> None:
    """Every request of the measured runs and of the prefill-only ones, in one table beside the record."""
    results: list[LoadResult] = [*run.measure, *run.prefill]
    rows = [row for result in results for row in result.log]
    path = record.with_suffix(".requests.parquet")
    if rows:
        write_request_log(path, rows)
        job.add_output("requests", path)
    else:
        path.unlink(missing_ok=True)

"""The context that every measuring script works in: phases, energy, and a record at the end.

    with Job(stage="evaluate_gsm8k", cell={...}, study=study, record=path) as job:
        with job.phase("load"): ...
        with job.phase("generate"): ...
        job.metrics.update(accuracy=...)

When the block ends well the record says `ok`. Out of memory and a missing capability are results too: the record says
`oom` or `unavailable` with the reason, and the script ends without an error. Any other exception leaves no record.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gainwatt import environment
from gainwatt.disk import check_room
from gainwatt.energy import EnergyMeter
from gainwatt.energy.phase_report import LISTED_PER_PATH
from gainwatt.errors import UnavailableError
from gainwatt.lock import RecordLock
from gainwatt.oom import is_out_of_memory
from gainwatt.parquet import write_table
from gainwatt.record import file_sha256, write_record
from gainwatt.study import Layout, Study


class Job:
    """One run of one script on one cell."""

    def __init__(self, *, stage: str, cell: dict[str, str], study: Study, record: Path, active: bool = True) -> None:
        """`active` is false in the helper processes of a job on several GPUs: the first process measures for all."""
        self.stage = stage
        self.cell = cell
        self.study = study
        self.record_path = record
        self.metrics: dict[str, Any] = {}
        self.null_reasons: dict[str, str] = {}
        self.settings: dict[str, Any] = study.settings(stage)
        self.inputs: dict[str, dict[str, Any]] = {"settings": {"sha256": study.settings_sha256(stage)}}
        self.outputs: dict[str, dict[str, Any]] = {}
        self.status = "ok"
        self.reason: str | None = None
        self.listed_phases = LISTED_PER_PATH
        """Occurrences of each phase that the record lists; the totals count all of them."""
        self._active = active
        self._afterwards: list[Callable[[], None]] = []
        self._lock = RecordLock(record)
        self._started = _now()
        self._meter = EnergyMeter(sample_hz=study.energy.sample_hz, idle_s=study.energy.idle_s, rapl=study.energy.rapl)

    def __enter__(self) -> Self:
        if not self._active:
            return self
        print(f"command: {shlex.join([sys.executable, *sys.argv])}", file=sys.stderr, flush=True)
        self._lock.acquire()
        try:
            check_room(self.record_path.parent, Layout.of(self.study).scratch)
            self._meter.start()
        except BaseException:
            self._lock.release()
            raise
        return self

    @property
    def meter(self) -> EnergyMeter:
        """The meter, for what the measuring protocol asks of it."""
        return self._meter

    def phase(self, name: str, **options: Any) -> contextlib.AbstractContextManager[Any]:
        """A named part of the work, with seconds and joules of its own; phases nest."""
        if not self._active:
            return contextlib.nullcontext()
        return self._meter.phase(name, **options)

    def null(self, metric: str, reason: str) -> None:
        """Say that `metric` was not measured, and why."""
        self.metrics[metric] = None
        self.null_reasons[metric] = reason

    def measured(self, values: Mapping[str, float | int | None], reason: str) -> None:
        """Keep metrics; those that are None are null for `reason`."""
        for metric, value in values.items():
            if value is None:
                self.null(metric, reason)
            else:
                self.metrics[metric] = value

    def on_written(self, action: Callable[[], None]) -> None:
        """Do `action` once the record is on the disk, e.g. remove what only an unfinished run needs."""
        self._afterwards.append(action)

    def add_input(self, name: str, sha256: str, **about: Any) -> None:
        """Name something that decides the result, by its hash."""
        self.inputs[name] = {"sha256": sha256, **about}

    def keep_energy(self, path: Path, identity: str) -> None:
        """Keep the joules so far in `path`: should this process be killed, the one that goes on names them.

        `identity` is a hash of what decides the result; what a process with another one left there does not count.
        """
        if self._active:
            self._meter.keep_journal(path, identity)
            self.on_written(self._meter.forget_journal)

    def add_output(self, name: str, path: Path) -> None:
        """Name a file written beside the record."""
        self.outputs[name] = {"file": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size}

    def add_table(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write `rows` beside the record as `<record>.<name>.parquet`, and name the file."""
        path = self.record_path.with_suffix(f".{name}.parquet")
        write_table(path, rows)
        self.add_output(name, path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return self._close(error)
        finally:
            self._lock.release()

    def _close(self, error: BaseException | None) -> bool:
        result = error is None or self._is_result(error)
        if self._active:
            self._meter.stop(idle=result)
        if not result:
            return False
        if not self._active:
            return True
        self._write()
        for action in self._afterwards:
            action()
        if error is not None:
            print(f"{self.stage} {self.cell}: {self.status}: {self.reason}", file=sys.stderr, flush=True)
        return True

    def _is_result(self, error: BaseException) -> bool:
        """Out of memory and a missing capability are results; the record keeps them."""
        if isinstance(error, UnavailableError):
            self.status, self.reason = "unavailable", str(error)
        elif is_out_of_memory(error):
            self.status, self.reason = "oom", " ".join(str(error).split())[:500] or type(error).__name__
        else:
            return False
        return True

    def energy_between(self, start_s: float, end_s: float) -> dict[str, Any]:
        """Energy of any stretch of the time so far, in seconds of `time.monotonic()`: see energy.interval."""
        from gainwatt.energy.interval import energy_between

        return energy_between(self._meter, start_s, end_s)

    def energy(self) -> dict[str, Any]:
        """Summary of the energy so far measured; complete once the block has ended."""
        return self._meter.summary()

    def phases(self) -> list[dict[str, Any]]:
        """The finished phases in order."""
        return self._meter.phases(self.listed_phases)

    def _write(self) -> None:
        trace = self.record_path.with_suffix(".trace.parquet")
        if self._meter.write_trace(trace):
            self.add_output("trace", trace)
        elif trace.exists():
            trace.unlink()  # of an earlier run: it would not belong to this record
        write_record(
            self.record_path,
            {
                "stage": self.stage,
                "study": self.study.study,
                "cell": self.cell,
                "status": self.status,
                "reason": self.reason,
                "metrics": self.metrics,
                "null_reasons": self.null_reasons,
                "settings": self.settings,
                "inputs": self.inputs,
                "outputs": self.outputs,
                "phases": self.phases(),
                "energy": self.energy(),
                "environment": environment.capture(),
                "command": ["python", *sys.argv],
                "started_at": self._started,
                "ended_at": _now(),
            },
        )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

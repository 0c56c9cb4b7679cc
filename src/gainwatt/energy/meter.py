"""The meter that every stage uses: one window around the work, phases inside, idle power on both sides.

    start()                                                              stop()
      |--- idle before ---|tick|========== window (phases) ==========|tick|--- idle after ---|

The sampler runs from the first to the last bar. Counter edges are placed on ticks outside of the window.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gainwatt.energy.clock import Runtime, SystemRuntime
from gainwatt.energy.device import DeviceState
from gainwatt.energy.edges import Edge, close_edge, open_edge, tick_period_s
from gainwatt.energy.idle import idle_at_rest, idle_with_context
from gainwatt.energy.journal import Journal
from gainwatt.energy.phase_report import LISTED_PER_PATH
from gainwatt.energy.phases import PathLog, PhaseLog
from gainwatt.energy.processes import classify
from gainwatt.energy.rapl import POWERCAP_ROOT
from gainwatt.energy.sampler import Sampler
from gainwatt.energy.sources import Sources, open_sources
from gainwatt.energy.summary import Report
from gainwatt.energy.sync import cuda_in_use, cuda_synchronize
from gainwatt.energy.track import Track

NOT_STARTED = "the meter was not started"


class EnergyMeter:
    """Measures the energy of a job and of its phases. No method ever raises because of a device.

    `sample_hz`: power samples per second, at least. Where the driver keeps a record of its own that is as fast or
    faster (50 a second on an H200), the record is read and every sample of it is kept; else power is polled at this
    rate. `idle_s`: seconds of idle power measured before and after (0: none, and net energy is null). `rapl`: include
    CPU package and DRAM where readable. `synchronize`: called at every edge so that queued GPU work is finished; None
    to leave it out. The other arguments serve tests and unusual machines.

    Gross and net. `gross_j` is all that the device used in the window. `net_j` = gross − idle power × seconds, with
    the idle power measured *before* the work: that of a board at rest, before this process made a CUDA context. The
    one measured after it, with the context still held, is reported beside it (`idle_after_w`) and subtracted only
    where there is none before. The two differ: an H200 draws 81 W at rest and 121 to 125 W with a context held, so
    that net energy contains the 40 W that holding the board costs. After another process has ended, a board stays at
    126 W for about 3 s. The meter therefore waits until power was flat for 4 s, at most 20 s (else the mark
    `idle_not_settled` is set). Where the board drew less during the work than when idle was measured, or a phase less
    than idle, net is null with the reason. On machines without a power reading nothing is waited for.

    What a failing reading does: a sample that fails is missing and counted; a device that is lost for good is
    not asked again. A window that the remaining readings do not cover has `gross_j: null`, the NVML code in its
    reason, and `partial_j` up to the last reading. Phases that ended before keep their energy. A total over
    several devices is null when one of them is null; the others stay in the record.
    """

    def __init__(
        self,
        sample_hz: float = 10.0,
        idle_s: float = 3.0,
        rapl: bool = True,
        *,
        synchronize: Callable[[], None] | None = cuda_synchronize,
        environ: Mapping[str, str] | None = None,
        rapl_root: Path = POWERCAP_ROOT,
        runtime: Runtime | None = None,
    ) -> None:
        self.sample_hz = sample_hz if 0 < sample_hz < math.inf else 10.0
        self.idle_s = max(0.0, idle_s)
        self.sources = Sources()
        self.tracks: list[Track] = []
        self.sampler: Sampler | None = None
        self.start_s: float | None = None
        self.end_s: float | None = None
        self.start_wall_s: float | None = None
        self.idle_before: tuple[float, float] | None = None
        self.idle_after: tuple[float, float] | None = None
        self.opening: tuple[Edge, ...] = ()
        self.closing: tuple[Edge, ...] = ()
        self.periods_s: list[float | None] = []
        self.states_before: list[DeviceState] = []
        self.states_after: list[DeviceState] = []
        self.processes: dict[str, list[dict[str, Any]]] = {}
        self.own_context = False
        self.problems: list[str] = []
        self.settled = True
        self.journal: Journal | None = None
        self.log = PhaseLog()
        self.state = "new"
        self._rapl, self._rapl_root = rapl, rapl_root
        self._environ = environ
        self._synchronize = synchronize
        self.runtime: Runtime = runtime or SystemRuntime()
        self._report: Report | None = None

    def __enter__(self) -> EnergyMeter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open the devices, measure idle power, start sampling, open the window. A second call does nothing."""
        if self.state != "new":
            return
        self.state = "running"
        with self._harmless("start"):
            self._open()
        with self._harmless("idle power before"):
            self.idle_before, self.settled = idle_at_rest(self.tracks, self.sampler, self.runtime, self.idle_s)
        with self._harmless("opening the window"):
            self.start_wall_s = self.runtime.wall()
            self.start_s, edges = open_edge(self.tracks, self.runtime)
            self.opening = tuple(edges)
        if self.start_s is None:
            self.start_s = self.runtime.now()

    def stop(self, *, idle: bool = True) -> None:
        """Close the window, measure idle power, stop sampling, close the devices. Safe to call twice.

        `idle` is false where nothing will be reported any more: somebody may be waiting for the process to end.
        """
        if self.state != "running":
            return
        self.state = "stopped"
        self._sync()
        end_s = self.runtime.now()
        with self._harmless("closing the window"):
            end_s, edges = close_edge(self.tracks, self.runtime, self.periods_s)
            self.closing = tuple(edges)
        self.end_s = end_s
        with self._harmless("reading the devices after the work"):
            self.states_after = self._states("after")
        with self._harmless("idle power after"):
            self.idle_after = idle_with_context(self.tracks, self.runtime, self.idle_s) if idle else None
        with self._harmless("stopping the sampler"):
            if self.sampler is not None:
                self.sampler.stop()
        self._note(ended=True)
        with self._harmless("closing the devices"):
            self.sources.close()

    def keep_journal(self, path: Path, identity: str) -> None:
        """Keep the joules so far in the file `path`, for the process that goes on if this one is killed. Never raises.

        What earlier processes with the same `identity` (hash of what decides the result) left there is named in the
        summary as `earlier_segments`; see gainwatt.energy.journal. Call it once it is known what is gone on with.
        """
        with self._harmless("reading the journal of earlier processes"):
            self.journal = Journal(path, identity, self.runtime.now())

    def forget_journal(self) -> None:
        """Remove the journal once the record that holds its joules is on the disk. Never raises."""
        if self.journal is not None:
            with self._harmless("removing the journal"):
                self.journal.forget()

    def _note(self, ended: bool = False) -> None:
        if self.journal is not None:
            with self._harmless("writing the journal"):
                self.journal.note(self, ended=ended)

    @contextlib.contextmanager
    def phase(self, name: str, short_ok: bool = True) -> Iterator[None]:
        """Mark a part of the work; phases nest, and a name may come back any number of times.

        With `short_ok` (the default) a phase costs two clock readings, and its energy comes from the sampled curve:
        right for load, warm-up, or thousands of rollouts and updates. At each border it is uncertain by up to half a
        sample period times the step in power there; what one phase loses its neighbour gains. `short_ok=False` is for
        a window whose number is published: its edges are placed on ticks of the energy counter (waiting up to one
        tick on either side, outside of the phase), and it is marked `short` below 5 s.
        """
        log = self.log.enter(name)
        measured = not short_ok and self.state == "running"
        opening: tuple[Edge, ...] = ()
        error: str | None = None
        self._sync()
        start_s = self.runtime.now()
        if measured:
            with self._harmless("opening a phase"):
                start_s, edges = open_edge(self.tracks, self.runtime)
                opening = tuple(edges)
        try:
            yield
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            self._leave(log, start_s, opening, measured, error)

    def summary(self) -> dict[str, Any]:
        """The record's energy block: JSON values only. Before `stop()` it covers the time so far."""
        return self.report().summary()

    def phases(self, limit: int | None = LISTED_PER_PATH) -> list[dict[str, Any]]:
        """The record's phases in the order in which they started: JSON values only, at most `limit` of each path."""
        return self.report().phases(limit)

    def temperature_c(self) -> float | None:
        """Temperature of the hottest GPU now; None without a thermometer. Never raises."""
        readings = [track.device.slow().temperature_c for track in self.tracks if track.lost is None]
        return max((value for value in readings if value is not None), default=None)

    def write_trace(self, path: Path | str) -> bool:
        """Write all samples as parquet (see gainwatt.energy.trace); False and no file when there is none."""
        from gainwatt.energy.trace import write_trace

        return write_trace(self.tracks, Path(path), self.start_s, self.start_wall_s)

    def report(self) -> Report:
        """Evaluation of what was recorded; kept once the meter is stopped."""
        if self._report is not None:
            return self._report
        if self.state == "running" and self.sampler is not None:
            with self._harmless("reading power for a report"):
                self.sampler.refresh()
        report = Report(self)
        if self.state == "stopped":
            self._report = report
        return report

    def _leave(
        self, log: PathLog, start_s: float, opening: tuple[Edge, ...], measured: bool, error: str | None
    ) -> None:
        self._sync()
        end_s = self.runtime.now()
        closing: tuple[Edge, ...] = ()
        if measured and self.state == "running":
            with self._harmless("closing a phase"):
                end_s, edges = close_edge(self.tracks, self.runtime, self.periods_s)
                closing = tuple(edges)
        self.log.leave(log)
        number = self.log.record(log, start_s, end_s)
        if measured:
            log.measured.add(number)
        if opening and closing:
            log.opening[number], log.closing[number] = opening, closing
        if error is not None:
            log.errors[number] = error

    def _open(self) -> None:
        environ = os.environ if self._environ is None else self._environ
        self.own_context = cuda_in_use()
        self.sources = open_sources(environ, self._rapl, self._rapl_root)
        runtime, hz = self.runtime, self.sample_hz
        self.tracks = [Track(device, runtime.now, runtime.wall, hz) for device in self.sources.devices]
        self.states_before = self._states("before")
        costs = [self._counter_cost_s(track) for track in self.tracks]
        periods: dict[str, float | None] = {}
        for track in self.tracks:
            # Boards of one product tick alike, and a measurement costs two ticks; a counter that stands says nothing.
            if periods.get(track.device.info.name) is None:
                periods[track.device.info.name] = tick_period_s(track, self.runtime)
        self.periods_s = [periods[track.device.info.name] for track in self.tracks]
        if self.tracks:
            self.sampler = Sampler(self.tracks, runtime, sum(costs), self._note)
            self.sampler.start()

    def _counter_cost_s(self, track: Track) -> float:
        """Cost of a counter reading where it is dear; RAPL's is not worth asking for."""
        if not track.device.has_counter or track.device.counter_tick_s is None:
            return 0.0
        costs = []
        for _ in range(3):
            before = self.runtime.now()
            track.read_counter()
            costs.append(self.runtime.now() - before)
        return sorted(costs)[1]

    def _states(self, when: str) -> list[DeviceState]:
        states = [track.device.state() if track.lost is None else DeviceState() for track in self.tracks]
        for track, state in zip(self.tracks, states, strict=True):
            for process in classify(state.processes or ()):
                self.processes.setdefault(track.device.info.label, []).append({**process, "seen": when})
        return states

    def _sync(self) -> None:
        if self._synchronize is not None:
            with self._harmless("synchronize"):
                self._synchronize()

    @contextlib.contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """Keep any failure of the meter away from the work; it is reported in the record."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a meter never fails the work that it measures
            text = f"{what}: {type(error).__name__}: {error}"
            if text not in self.problems:
                self.problems.append(text)

"""One load: every arm tried, then the arms that work measured in interleaved order inside of the job's meter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.protocol import ArmResult, Settings, results, run
from gainwatt.profiling.arms import LoadedArm, free_memory
from gainwatt.profiling.cells import PHASE_SAMPLES, Cell, failed_cell, measured_cell
from gainwatt.profiling.generate import Timing
from gainwatt.profiling.sampled import window_power
from gainwatt.profiling.trial import Trial, outcome, owned, try_arm
from gainwatt.study.profiling_cells import Arm, Load

Call = dict[str, Any]


@dataclass
class Bench:
    """What all loads of a group share. `failed`: arms that could not be loaded, with status and reason."""

    meter: EnergyMeter
    arms: tuple[Arm, ...]
    loaded: dict[str, LoadedArm]
    failed: dict[str, tuple[str, str]]
    tokenizer: Any
    settings: Settings
    limits: dict[str, Any]
    kernels: bool = True
    tell: Callable[[str], None] = print
    events: list[str] = field(default_factory=list)


class _ArmError(Exception):
    """An arm failed in the middle of the windows."""

    def __init__(self, label: str, status: str, reason: str) -> None:
        super().__init__(label)
        self.label, self.status, self.reason = label, status, reason


def measure_load(bench: Bench, load: Load) -> tuple[list[Cell], list[Call]]:
    """All cells of one load, and the calls of their windows. An arm that fails is a row, and the others go on."""
    failed = dict(bench.failed)
    trials: dict[str, Trial] = {}
    for label, loaded in bench.loaded.items():
        with bench.meter.phase(f"try {load.name} {label}"):
            trial = try_arm(loaded, load, bench.tokenizer, kernels=bench.kernels)
        if trial.status == "ok":
            trials[label] = trial
        else:
            failed[label] = (trial.status, trial.reason or "")
    bench.tell(_estimate(bench, load, trials))
    measured: dict[str, Cell] = {}
    calls: list[Call] = []
    while trials:
        try:
            measured, calls = _windows(bench, load, trials)
            break
        except _ArmError as failure:
            label = failure.label
            failed[label] = (failure.status, failure.reason)
        bench.events.append(f"{load.name}: {label} failed between the windows, the others began again")
        _forget_cache(bench.loaded[label], trials.pop(label))
        free_memory()  # the exception is gone, and with it the frames that hold the failed batch
    for label, trial in trials.items():
        _forget_cache(bench.loaded[label], trial)
    cells = [
        measured[arm.label] if arm.label in measured else _failed(bench, arm, load, *failed[arm.label])
        for arm in bench.arms
    ]
    return cells, calls


def _forget_cache(loaded: LoadedArm, trial: Trial) -> None:
    if trial.generator is not None:
        with owned(loaded):
            trial.generator.forget_cache()


def _failed(bench: Bench, arm: Arm, load: Load, status: str, reason: str) -> Cell:
    return failed_cell(arm, load, baseline=arm == bench.arms[0], status=status, reason=reason)


def _windows(bench: Bench, load: Load, trials: dict[str, Trial]) -> tuple[dict[str, Cell], list[Call]]:
    timings: dict[str, list[Timing]] = {label: [] for label in trials}

    def arm(label: str, trial: Trial) -> Callable[[], float]:
        generator, ids = trial.generator, trial.ids
        assert generator is not None  # noqa: S101 - a trial that ended well has one

        def call() -> float:
            try:
                timings[label].append(generator(ids, load.new_tokens, bench.meter.phase))
            except Exception as error:
                found = outcome(error)
                if found is None:
                    raise
                raise _ArmError(label, *found) from None
            return load.batch * load.new_tokens

        return call

    names = {label: f"{load.name} {label}" for label in trials}
    done = run(bench.meter, {names[label]: arm(label, trial) for label, trial in trials.items()}, bench.settings)
    entries = bench.meter.phases(limit=None)
    found = results(bench.meter, list(names.values()), done, entries)
    cells: dict[str, Cell] = {}
    calls: list[Call] = []
    for (label, trial), result in zip(trials.items(), found, strict=True):
        mine = timings[label][bench.settings.warmup_runs :]
        windows = _described(bench.meter, names[label], result, entries)
        phases = _phase_totals(bench.meter, names[label], entries, windows[0]["start_s"])
        loaded = bench.loaded[label]
        cells[label] = measured_cell(
            loaded, load, trial, result, mine, windows, phases, bench.limits, baseline=loaded.arm == bench.arms[0]
        )
        calls += _calls(label, load, result, mine)
    return cells, calls


def _described(
    meter: EnergyMeter, name: str, result: ArmResult, entries: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The windows of an arm as JSON values, with the sampled power that other definitions of energy need."""
    mine = [entry for entry in entries if entry["name"] == f"window {name}"][-len(result.windows) :]
    rows = []
    for window, entry in zip(result.windows, mine, strict=True):
        start_s = entry["start_s"]
        row = {key: value for key, value in asdict(window).items() if key != "arm"}
        row["flags"] = list(window.flags)
        row |= {"start_s": start_s, **window_power(meter, start_s, start_s + window.seconds)}
        row["reason"], row["net_reason"] = entry["energy"].get("reason"), entry["energy"].get("net_reason")
        if not meter.tracks:
            row["reason"] = meter.report().no_energy_reason()
        rows.append(row)
    return rows


def _phase_totals(
    meter: EnergyMeter, name: str, entries: Sequence[dict[str, Any]], since_s: float
) -> dict[str, dict[str, Any]]:
    """Gross joules of all prefills and all decodes in an arm's windows; none where they are too short to tell apart."""
    spacing_s = max((track.spacing_s for track in meter.tracks if track.device.has_power), default=0.0)
    totals: dict[str, dict[str, Any]] = {}
    for phase in ("prefill", "decode"):
        # Windows that a failing arm broke off have the same name and lie before `since_s`.
        mine = [e for e in entries if e["path"].endswith(f"window {name}/{phase}") and e["start_s"] >= since_s]
        joules = [entry["energy"]["gross_j"] for entry in mine]
        mean_s = sum(entry["seconds"] for entry in mine) / len(mine) if mine else 0.0
        if any(value is None for value in joules):
            reason = next(e["energy"].get("reason") for e in mine if e["energy"]["gross_j"] is None)
            reason = reason if meter.tracks else meter.report().no_energy_reason()
            totals[phase] = {"gross_j": None, "reason": reason}
        elif mine and mean_s < PHASE_SAMPLES * spacing_s:
            short = f"a {phase} of {1000 * mean_s:.0f} ms is too short for samples {1000 * spacing_s:.0f} ms apart"
            totals[phase] = {"gross_j": None, "reason": short}
        elif mine:
            totals[phase] = {"gross_j": sum(joules)}
    return totals


def _calls(label: str, load: Load, result: ArmResult, timings: Sequence[Timing]) -> list[Call]:
    """One row per batch of the windows: which window, seconds to the first and to the last token."""
    rows: list[Call] = []
    waiting = iter(timings)
    for window in result.windows:
        for number in range(window.calls):
            timing = next(waiting)
            rows.append(
                {"arm": label, **load.as_dict(), "order": window.order, "call": number, "ttft_s": timing.ttft_s,
                 "latency_s": timing.latency_s}
            )  # fmt: skip
    return rows


def _estimate(bench: Bench, load: Load, trials: dict[str, Trial]) -> str:
    settings = bench.settings
    each = [trial.second_call_s or 0.0 for trial in trials.values()]
    seconds = sum(settings.repeats * max(settings.window_s, once) + settings.warmup_runs * once for once in each)
    return f"{load.name}: {len(each)} arms, {settings.repeats} windows each, about {seconds:.0f} s without cool-down"

"""How to measure work that is too short to measure once.

    arm A   [warm-up]  |cool|== repeat >= 5 s ==|  .  .  .  .  .  .  .  .  |cool|== ==|
    arm B   [warm-up]  .  .  .  .  .  .  .  .  |cool|== ==||cool|== ==|  .  .  .  .  .    ...
                       '------------------ A  B  B  A  (one block) -----------------'

    warm-up   each arm runs until it has done `warmup_runs` calls: caches, autotuning, clocks
    cool      wait until the board is back within `cool_margin_c` of its temperature before the first window
    window    the same call is repeated until `window_s` have passed (>= 5 s: fifty ticks of the energy counter);
              edges on counter ticks; joules, seconds and units of work (tokens, requests) of the whole window
    block     the arms in the order A B ... B A, so that a drift that is linear in time (the room, the clocks) adds the
              same to every arm and cancels in their difference
    repeats   blocks go on until every arm has at least `repeats` windows (n >= 5)
    gates     coefficient of variation: throughput < 2 %, mean power < 5 %; every window >= 5 s; n >= 5 windows; a gate
              that failed is shown, nothing is dropped

A window's value is its total divided by its work, never a mean of rates. Source of the protocol: NVML's counter period
(100 ms), Burtscher et al. and Yang et al. (arXiv 2312.02741) on repeating and aligning GPU power measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.stats import Spread, spread

CV_THROUGHPUT = 0.02
CV_POWER = 0.05
WINDOW_MIN_S = 5.0
REPEATS_MIN = 5


@dataclass(frozen=True)
class Settings:
    """Protocol settings; see the drawing in the module's docstring. Seconds, degrees Celsius, counts."""

    window_s: float = 5.0
    repeats: int = 6
    """Windows per arm; even, so that the order A B B A is complete, and at least 5."""
    warmup_runs: int = 3
    cool_margin_c: float = 2.0
    cool_patience_s: float = 120.0


@dataclass(frozen=True)
class Done:
    """One finished window whose energy has not been looked up yet."""

    arm: str
    calls: int
    work: float
    temperature_start_c: float | None
    cooled: bool | None


@dataclass(frozen=True)
class Window:
    """One window of one arm. `work` is the sum of what the calls returned (tokens, steps, requests)."""

    arm: str
    order: int
    calls: int
    work: float
    seconds: float
    gross_j: float | None
    net_j: float | None
    temperature_start_c: float | None
    cooled: bool | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Gate:
    """One check: coefficient of variation of a quantity against its limit. `passed` is None without enough values.

    The gates `length` and `repeats` have no coefficient: their limit is the shortest window in seconds and the smallest
    number of windows.
    """

    name: str
    cv: float | None
    limit: float
    passed: bool | None


@dataclass(frozen=True)
class ArmResult:
    """Repeats of one arm: work per second, watts, joules per unit of work (gross, net)."""

    arm: str
    windows: tuple[Window, ...]
    throughput: Spread
    power_w: Spread
    gross_j_per_work: Spread
    net_j_per_work: Spread
    gates: tuple[Gate, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


def abba(arms: list[str], windows: int) -> list[str]:
    """Order in which to run `windows` windows of each arm: forwards, backwards, forwards, …

    For two arms this is A B B A A B B A …; the sum of the positions of both arms is equal whenever `windows` is even.
    """
    order: list[str] = []
    for block in range(windows):
        order += arms if block % 2 == 0 else arms[::-1]
    return order


def measure(
    meter: EnergyMeter,
    arms: Mapping[str, Callable[[], float]],
    settings: Settings | None = None,
    temperature_c: Callable[[], float | None] | None = None,
) -> list[ArmResult]:
    """Run the protocol inside a started meter, stop it, and evaluate. Arguments as for `run`.

    Raises whatever an arm raises; the meter is stopped all the same.
    """
    try:
        done = run(meter, arms, settings, temperature_c)
    finally:
        meter.stop()
    return results(meter, list(arms), done)


def run(
    meter: EnergyMeter,
    arms: Mapping[str, Callable[[], float]],
    settings: Settings | None = None,
    temperature_c: Callable[[], float | None] | None = None,
) -> list[Done]:
    """Run the protocol inside a started meter and leave it running, so that one meter can hold several runs.

    `arms`: name → one call of the work, which returns the amount of work that it did (> 0) and has finished when it
    returns. `temperature_c`: reads the board's temperature; the default asks the meter's GPUs. Raises whatever an arm
    raises.
    """
    settings = settings or Settings()
    read = temperature_c or meter.temperature_c
    done: list[Done] = []
    for name, call in arms.items():
        with meter.phase(f"warm-up {name}"):
            for _ in range(settings.warmup_runs):
                call()
    start_c = read()
    for name in abba(list(arms), settings.repeats):
        cooled = cool_down(meter, start_c, settings, read) if done else True if start_c is not None else None
        temperature = read()
        with meter.phase(f"window {name}", short_ok=False):
            calls, work = _repeat(meter, arms[name], settings.window_s)
        done.append(Done(name, calls, work, temperature, cooled))
    return done


def results(
    meter: EnergyMeter, arms: Sequence[str], done: Sequence[Done], entries: Sequence[dict[str, Any]] | None = None
) -> list[ArmResult]:
    """Evaluate the windows of the meter's last run. `entries`: `meter.phases(limit=None)`, where it is at hand."""
    windows = _windows(meter.phases(limit=None) if entries is None else entries, done)
    return [evaluate(name, [window for window in windows if window.arm == name]) for name in arms]


def evaluate(arm: str, windows: list[Window]) -> ArmResult:
    """Spreads and gates of one arm's windows; windows without energy leave the energy columns with fewer values."""
    throughput = spread([window.work / window.seconds for window in windows])
    power = spread([window.gross_j / window.seconds for window in windows if window.gross_j is not None])
    return ArmResult(
        arm=arm,
        windows=tuple(windows),
        throughput=throughput,
        power_w=power,
        gross_j_per_work=spread([window.gross_j / window.work for window in windows if window.gross_j is not None]),
        net_j_per_work=spread([window.net_j / window.work for window in windows if window.net_j is not None]),
        gates=(
            _gate("throughput", throughput, CV_THROUGHPUT),
            _gate("power", power, CV_POWER),
            Gate("length", None, WINDOW_MIN_S, all(window.seconds >= WINDOW_MIN_S for window in windows)),
            Gate("repeats", None, REPEATS_MIN, len(windows) >= REPEATS_MIN),
        ),
    )


def _gate(name: str, values: Spread, limit: float) -> Gate:
    return Gate(name, values.cv, limit, None if values.cv is None else values.cv < limit)


def _repeat(meter: EnergyMeter, call: Callable[[], float], window_s: float) -> tuple[int, float]:
    begin = meter.runtime.now()
    calls, work = 0, 0.0
    while calls == 0 or meter.runtime.now() - begin < window_s:
        work += call()
        calls += 1
    return calls, work


def cool_down(
    meter: EnergyMeter, start_c: float | None, settings: Settings, read: Callable[[], float | None]
) -> bool | None:
    """Wait for the starting temperature; True when reached, False when patience ended, None without a thermometer."""
    if start_c is None:
        return None
    deadline = meter.runtime.now() + settings.cool_patience_s
    with meter.phase("cool-down"):
        while True:
            now_c = read()
            if now_c is None:
                return None
            if now_c <= start_c + settings.cool_margin_c:
                return True
            if meter.runtime.now() >= deadline:
                return False
            meter.runtime.sleep(0.5)


def _windows(entries: Sequence[dict[str, Any]], done: Sequence[Done]) -> list[Window]:
    measured = [entry for entry in entries if entry["name"].startswith("window ")][-len(done) :] if done else []
    windows = []
    for order, (entry, found) in enumerate(zip(measured, done, strict=True)):
        energy = entry["energy"]
        windows.append(
            Window(
                arm=found.arm,
                order=order,
                calls=found.calls,
                work=found.work,
                seconds=entry["seconds"],
                gross_j=energy["gross_j"],
                net_j=energy["net_j"],
                temperature_start_c=found.temperature_start_c,
                cooled=found.cooled,
                flags=tuple(energy["flags"]),
            )
        )
    return windows

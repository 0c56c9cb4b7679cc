"""The four measurements of agreement.py. Each returns {"rows": [...], "verdict": [...], ...} of JSON values."""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads import DecodeLoop, MatrixLoad

from gainwatt.energy import EnergyMeter
from gainwatt.energy.check import run_windows, windows_table
from gainwatt.energy.protocol import abba
from gainwatt.energy.stats import Spread, spread

AGREE = 0.01
CORE_SHARE = 0.001
REPEAT_CV = 0.01
ROUND_S = 0.002
"""A round of the sampler takes 0.6 ms, one with the energy counter 4 ms."""


def windows(load: MatrixLoad, seconds: float, hz: float, out: Path) -> dict[str, Any]:
    """Counter against trapezoid in an idle and in a busy window."""
    meter = EnergyMeter(sample_hz=hz, idle_s=3.0)
    run_windows(meter, seconds, seconds, lambda: load.run)
    meter.write_trace(out / "windows.parquet")
    rows = [
        {**row, "apart": row["relative_difference"]} for row in windows_table(meter) if row["device"].startswith("gpu")
    ]
    gaps = [abs(row["apart"]) for row in rows if row["apart"] is not None]
    verdict = (
        [f"largest difference {max(gaps):.3%}"] if gaps else ["counter or power is not offered: nothing to compare"]
    )
    return {"rows": rows, "verdict": verdict, "energy": meter.summary()}


def zeus(load: MatrixLoad, seconds: float, rounds: int, hz: float) -> dict[str, Any]:
    """Identical windows by both: Zeus reads its counter right inside of our edges.

    Zeus takes the counter as it stands when the window ends, so it misses what ran since the last tick: up to 0.1 s of
    a window, 0.3 % of 15 s on average and 0.7 % at most. A difference up to that size is Zeus's edge, not a dispute.
    """
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError as error:
        return {"reason": f"not measured: the package zeus cannot be imported ({error})"}
    # Both meters see finished work: `load.run` waits for the GPU itself, so Zeus need not.
    monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])
    meter = EnergyMeter(sample_hz=hz, idle_s=0.0, rapl=False)
    meter.start()
    apart = _other_board(monitor, meter)
    if apart is not None:
        meter.stop()
        return {"reason": apart}
    names, theirs = [], []
    for number in range(2 * rounds):
        name = "busy" if number % 4 in (1, 2) else "idle"
        with meter.phase(name, short_ok=False):
            monitor.begin_window(name, sync_execution=False)
            load.run(seconds) if name == "busy" else time.sleep(seconds)
            theirs.append(float(monitor.end_window(name, sync_execution=False).total_energy))
        names.append(name)
    meter.stop()
    rows = []
    for name, phase, joules in zip(names, meter.phases(limit=None), theirs, strict=True):
        ours = phase["energy"]["devices"][0]["gross_j"]
        apart = None if ours is None or not joules else ours / joules - 1
        rows.append({"window": name, "seconds": phase["seconds"], "ours_j": ours, "zeus_j": joules, "apart": apart})
    gaps = [abs(row["apart"]) for row in rows if row["apart"] is not None]
    if not gaps:
        return {"rows": rows, "verdict": ["no window could be compared"]}
    total = sum(row["ours_j"] for row in rows if row["apart"] is not None) / sum(theirs) - 1
    word = "within" if max(gaps) <= AGREE else "NOT within"
    return {"rows": rows, "verdict": [f"{word} 1 %: largest difference {max(gaps):.3%}, over all windows {total:+.3%}"]}


def _other_board(monitor: Any, meter: EnergyMeter) -> str | None:
    """Why the two do not read the same GPU; None where they do. Zeus counts GPUs as NVML does, and so do our labels."""
    zeus_reads = f"gpu:{monitor.gpus.gpus[0].gpu_index}"
    found = [device.info.label for device in meter.sources.devices]
    if found[:1] == [zeus_reads]:
        return None
    return (
        f"not comparable: Zeus reads {zeus_reads}, and this meter {found[0] if found else 'no GPU'}; "
        "name one GPU in CUDA_VISIBLE_DEVICES by its NVML index"
    )


def overhead(seconds: float, pairs: int, share_s: float, hz: float) -> dict[str, Any]:
    """A launch-bound loop with and without a running sampler, A B B A; CPU share of the sampler alone and beside it."""
    loop = DecodeLoop()
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for arm in abba(["without", "with"], pairs):
        if arm == "without":
            rates[arm].append(1 / statistics.median(duration for _, duration in loop.timed(seconds)))
            continue
        meter = EnergyMeter(sample_hz=hz, idle_s=0.0, rapl=False)
        meter.start()
        rates[arm].append(1 / statistics.median(duration for _, duration in loop.timed(seconds)))
        meter.stop()
    arms = {arm: spread(values) for arm, values in rates.items()}
    differences = [b / a - 1 for a, b in zip(rates["without"], rates["with"], strict=True)]
    beside, steps, rounds = _sampler_share(loop.timed, share_s, hz)
    alone, _, _ = _sampler_share(time.sleep, share_s, hz)
    struck = during_rounds(steps, rounds)
    rows = [
        {"arm": arm, "n": found.n, "steps_per_s": found.mean, "cv": found.cv, "low": found.low, "high": found.high}
        for arm, found in arms.items()
    ]
    verdict = [
        _slowdown(spread(differences)),
        _share("beside the loop", beside, share_s),
        _share("alone", alone, share_s),
        _struck(struck),
    ]
    shares = {"beside": beside, "alone": alone}
    return {
        "rows": rows,
        "verdict": verdict,
        "relative_rates": differences,
        "sampler_cpu_shares": shares,
        "during_rounds": struck,
    }


def _sampler_share(work: Callable[[float], Any], seconds: float, hz: float) -> tuple[float | None, Any, list[float]]:
    """While `work` runs for `seconds`: the sampler's share of a core, what `work` returned, when rounds began."""
    meter = EnergyMeter(sample_hz=hz, idle_s=0.0, rapl=False)
    meter.start()
    done = work(seconds)
    meter.stop()
    rounds = list(meter.sampler.polls) if meter.sampler is not None else []
    return meter.summary()["sampling"].get("sampler_cpu_share"), done, rounds


def during_rounds(steps: list[tuple[float, float]], rounds: list[float]) -> dict[str, Any]:
    """What a round of the sampler costs the loop: steps (start, seconds) that it may touch against all others.

    A round touches the steps that run within `ROUND_S` behind its begin. `lost_share` is their time beyond the median
    of the others, over all time: the slow-down without the noise of the machine, which is far larger.
    """
    struck: list[float] = []
    others: list[float] = []
    for begin, duration in steps:
        place = bisect_right(rounds, begin + duration)
        touched = place > 0 and rounds[place - 1] + ROUND_S > begin
        (struck if touched else others).append(duration)
    if not struck or not others:
        return {"rounds": len(rounds), "steps": len(struck), "lost_share": None}
    usual, total = statistics.median(others), sum(struck) + sum(others)
    return {
        "rounds": len(rounds),
        "steps": len(struck),
        "median_us": 1e6 * statistics.median(struck),
        "usual_us": 1e6 * usual,
        "mean_us": 1e6 * statistics.fmean(struck),
        "usual_mean_us": 1e6 * statistics.fmean(others),
        "lost_share": (statistics.fmean(struck) - statistics.fmean(others)) * len(struck) / total,
    }


def _struck(found: dict[str, Any]) -> str:
    if found["lost_share"] is None:
        return "no step of the loop met a round of the sampler"
    steps = f"{found['steps']} steps beside {found['rounds']} rounds of the sampler"
    times = f"{found['median_us']:.0f} us in the median, all others {found['usual_us']:.0f} us"
    return f"{steps} took {times}: {found['lost_share']:.4%} of the loop's time"


def _slowdown(slow: Spread) -> str:
    if slow.mean is None or slow.low is None or slow.high is None:
        return "too few loops for a statement about a slow-down"
    measurable = slow.high < 0
    word = "a measurable slow-down" if measurable else "no measurable slow-down"
    return f"{word}: rate with the sampler {slow.mean:+.3%} (95 % interval {slow.low:+.3%} to {slow.high:+.3%})"


def _share(where: str, share: float | None, seconds: float) -> str:
    if share is None:
        return f"the sampler's CPU time {where} was not measured"
    word = "below" if share < CORE_SHARE else "NOT below"
    return f"sampler {where}, {seconds:g} s: {share:.4%} of a core, {word} 0.1 %"


def repeat(load: MatrixLoad, seconds: float, repeats: int, hz: float, out: Path, deadline: float) -> dict[str, Any]:
    """One fixed amount of work, about `seconds` long, run again and again; CV of its joules."""
    begin = time.monotonic()
    batches = max(1, round(seconds * load.count(4.0) / (time.monotonic() - begin)))
    meter = EnergyMeter(sample_hz=hz, idle_s=3.0, rapl=False)
    meter.start()
    temperatures: list[float | None] = []
    longest = seconds
    while len(temperatures) < repeats and time.monotonic() + longest + 4.0 < deadline:
        temperatures.append(meter.temperature_c())
        began = time.monotonic()
        with meter.phase("run", short_ok=False):
            load.duty(batches)
        longest = max(longest, time.monotonic() - began)
    meter.stop()
    meter.write_trace(out / "repeat.parquet")
    rows = []
    for number, (phase, celsius) in enumerate(zip(meter.phases(), temperatures, strict=True)):
        energy = phase["energy"]
        rows.append(
            {
                "run": number,
                "seconds": phase["seconds"],
                "gross_j": energy["gross_j"],
                "net_j": energy["net_j"],
                "mean_w": None if energy["gross_j"] is None else energy["gross_j"] / phase["seconds"],
                "temperature_c": celsius,
            }
        )
    found = spread([row["gross_j"] for row in rows if row["gross_j"] is not None])
    return {"rows": rows, "verdict": [_repeat_verdict(found, repeats)], "batches": batches, "energy": meter.summary()}


def _repeat_verdict(found: Spread, wanted: int) -> str:
    if found.cv is None or found.mean is None:
        return f"{found.n} of {wanted} runs in the time given: too few for a coefficient of variation"
    word = "below" if found.cv < REPEAT_CV else "NOT below"
    return f"CV of the joules {found.cv:.3%} over {found.n} runs (mean {found.mean:.1f} J), {word} 1 %"

"""Which energy meters this machine has, what they cost, whether they agree, and what to fix.

The command finds every meter that a job on this machine would use (NVIDIA boards through NVML, CPU package and DRAM
through RAPL, AMD, Apple and Jetson through Zeus where it is installed), and then

  1. times every reading, and sees how often its value changes;
  2. measures idle power, then an idle window, then a busy one, each by energy counter and by integrated power;
  3. reports the sampler's own share of a CPU core, idle and beside the load;
  4. gives a verdict in plain words, with the command that repairs what is wrong.

It needs no special rights and changes nothing on the machine. It takes about half a minute. Without any meter it still
ends well (exit status 0) and says why there is none; with --require-meter that is an error (exit status 4).

Examples:
  python scripts/check_energy.py
  python scripts/check_energy.py --record check.json --figure trace.svg --trace trace.parquet
  CUDA_VISIBLE_DEVICES=1 python scripts/check_energy.py --busy-s 20
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.energy.check import all_costs, run_windows, windows_table
from gainwatt.energy.clock import SystemRuntime
from gainwatt.energy.figure import draw_trace
from gainwatt.energy.load import Load, cpu_load, gpu_load
from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.sources import Sources, open_sources
from gainwatt.energy.verdict import findings, headline
from gainwatt.errors import GainwattError, UnavailableError

_MOST = 100.0  # samples a second, and seconds for a reading


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        record = _check(args)
    except GainwattError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _print(record)
    return 0


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and up to {_MOST:.0f}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--sample-hz",
        type=_positive,
        default=10.0,
        metavar="HZ",
        help="samples of power per second, at least: a driver that keeps a faster record of its own is read through it "
        "(default: 10)",
    )
    add("--idle-s", type=_seconds, default=8.0, metavar="S", help="length of the idle window in seconds (default: 8)")
    add("--busy-s", type=_seconds, default=8.0, metavar="S", help="length of the busy window in seconds (default: 8)")
    add("--idle-power-s", type=_seconds, default=3.0, metavar="S", help="idle power before and after (default: 3)")
    add("--cost-s", type=_positive, default=1.0, metavar="S", help="time for timing each reading (default: 1)")
    add(
        "--busy",
        choices=("auto", "gpu", "cpu", "none"),
        default="auto",
        help="load of the busy window: matrix products with torch, one CPU core, none; auto takes the GPU where torch "
        "sees one, else the CPU where RAPL can be read (default: auto)",
    )
    add("--no-rapl", action="store_true", help="leave CPU package and DRAM out")
    add("--require-meter", action="store_true", help="end with status 4 when there is no meter at all")
    add("--record", type=Path, metavar="JSON", help="write everything that was found to this file")
    add("--trace", type=Path, metavar="PARQUET", help="write all samples to this file (needs pyarrow)")
    add("--figure", type=Path, metavar="SVG", help="draw the power trace: .svg, .png or .pdf (needs matplotlib)")
    return parser


def _check(args: argparse.Namespace) -> dict[str, Any]:
    runtime = SystemRuntime()
    sources = open_sources(os.environ, rapl=not args.no_rapl)
    persistence = {device.info.label: device.state().persistence for device in sources.devices}
    hints = sources.hints
    costs = all_costs(sources, runtime, args.cost_s)
    sources.close()
    meter = EnergyMeter(args.sample_hz, args.idle_power_s, rapl=not args.no_rapl)
    # Without a device the reasons are all that is wanted, and they need no waiting.
    load_name = "none: there is no meter"

    def prepare() -> Load | None:
        nonlocal load_name
        load, load_name = _load(args.busy, sources)
        return load

    shares = run_windows(meter, args.idle_s if sources.devices else 0.0, args.busy_s, prepare)
    summary = meter.summary()
    windows = windows_table(meter)
    record: dict[str, Any] = {
        "kind": "gainwatt-energy-check",
        "schema_version": 1,
        "stage": "check_energy",
        "status": "ok" if sources.devices else "unavailable",
        "verdict": headline(summary),
        "findings": [asdict(item) for item in findings(summary, hints, windows, persistence, shares)],
        "busy_load": load_name,
        "call_costs": costs,
        "windows": windows,
        "sampler_cpu_share": shares,
        "energy": summary,
        "phases": meter.phases(),
    }
    record["files"] = _write(args, meter, record)
    if args.require_meter and not sources.devices:
        raise UnavailableError(record["verdict"], "; ".join(hints) or "see the findings in the record")
    return record


def _load(choice: str, sources: Sources) -> tuple[Load | None, str]:
    if choice in ("auto", "gpu") and (choice == "gpu" or "gpu_board" in sources.boundary):
        load, name = gpu_load()
        if load is not None:
            return load, name
        if choice == "gpu":
            raise UnavailableError(f"no GPU load: {name}", "install torch with CUDA, or use --busy cpu or --busy none")
    if choice == "cpu" or (choice == "auto" and "cpu_package" in sources.boundary):
        return cpu_load()
    return None, "none: no busy window was measured"


def _write(args: argparse.Namespace, meter: EnergyMeter, record: dict[str, Any]) -> dict[str, str]:
    files: dict[str, str] = {}
    if args.trace is not None and meter.write_trace(args.trace):
        files["trace"] = str(args.trace)
    if args.figure is not None and draw_trace(meter, args.figure):
        files["figure"] = str(args.figure)
    if args.record is not None:
        write_json(args.record, {**record, "files": files})
        files["record"] = str(args.record)
    return files


def _print(record: dict[str, Any]) -> None:
    energy = record["energy"]
    if record["call_costs"]:
        print("meters")
        for device in energy["devices"]:
            idle = _cell(device["idle_before_w"], "{:.1f} W")
            print(f"  {device['device']:<8}{device['name']} ({device['source']}, {device['boundary']}), idle {idle}")
        print("\nreadings                                             calls   median      99 %    changes every")
        for cost in record["call_costs"]:
            print(_cost_line(cost))
        print("\nwindow  device        s   counter J  integral J    apart        W  method")
        for row in record["windows"]:
            print(_window_line(row))
        _print_sampling(energy, record["sampler_cpu_share"])
        print(f"load of the busy window: {record['busy_load']}")
    print(f"\nverdict: {record['verdict']}")
    for item in record["findings"]:
        print(f"  - {item['what']}")
        if item["fix"]:
            print(f"    to do: {item['fix']}")
    for kind, path in record["files"].items():
        print(f"{kind}: {path}")


def _print_sampling(energy: dict[str, Any], shares: dict[str, float | None]) -> None:
    sampling = energy["sampling"]
    sources = sorted({device["power_source"] for device in energy["devices"] if device["power_source"]})
    rate = _cell(sampling["effective_hz"], "{:.2f} samples a second")
    rounds = _cell(sampling.get("round_s"), "a round every {:.2f} s")
    print(f"\npower: {' and '.join(sources) or 'no reading'}, {rate}, {sampling.get('gaps', 0)} gaps, {rounds}")
    parts = [f"{name} {_cell(share, '{:.4%}')}" for name, share in shares.items()]
    whole = _cell(sampling.get("sampler_cpu_share"), "{:.4%}")
    print(f"sampler's share of a CPU core: {', '.join([*parts, f'over all {whole}'])}")


def _cost_line(cost: dict[str, Any]) -> str:
    name = f"  {cost['device']:<8}{cost['reading']}"
    if cost["median_us"] is None:
        return f"{name:<52} not offered: {cost['reason']}"
    period = _cell(cost["period_s"], "{:.3f} s")
    return f"{name:<52}{cost['calls']:>6}{cost['median_us']:>9.1f}{cost['p99_us']:>10.1f} us   {period}"


def _window_line(row: dict[str, Any]) -> str:
    apart = _cell(row["relative_difference"], "{:+.2%}")
    counter, integral = _cell(row["counter_j"], "{:.1f}"), _cell(row["integral_j"], "{:.1f}")
    head = f"{row['window']:<8}{row['device']:<8}{row['seconds']:>7.1f}{counter:>12}{integral:>12}{apart:>9}"
    flags = f"  [{', '.join(row['flags'])}]" if row["flags"] else ""
    return f"{head}{_cell(row['mean_w'], '{:.1f}'):>9}  {row['method']}{flags}"


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())

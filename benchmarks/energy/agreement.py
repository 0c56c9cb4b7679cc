"""Is the energy meter right, and does it cost nothing? One command on a machine with an NVIDIA GPU, at most 6 minutes.

  windows    energy counter against integrated power, idle and busy
  zeus       the same windows by this meter and by Zeus's ZeusMonitor (needs the package zeus)
  overhead   CPU share of the sampler, and a decode-like loop with and without it in the order A B B A
  repeat     a fixed workload of a minute, again and again: coefficient of variation of its joules

It prints Markdown tables, and writes agreement.json, agreement.md and the traces to the folder given by --out. Each
part can be left out (--skip) and shortened. torch with CUDA and nvidia-ml-py must be importable.

Examples:
  PYTHONPATH=src python3 benchmarks/energy/agreement.py --out results/agreement
  PYTHONPATH=src python3 benchmarks/energy/agreement.py --out /tmp/quick --skip repeat --window-s 5 --pairs 2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import parts
import workloads

from gainwatt.atomic import write_json, write_text
from gainwatt.errors import GainwattError

PARTS = ("windows", "zeus", "overhead", "repeat")


def main(argv: list[str] | None = None) -> int:
    """Run all parts that were not skipped; return the exit status."""
    args = _parser().parse_args(argv)
    try:
        record = _run(args)
        text = report(record)
        write_json(args.out / "agreement.json", record)
        write_text(args.out / "agreement.md", text)
    except GainwattError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder for agreement.json, agreement.md, traces")
    add("--skip", nargs="*", choices=PARTS, default=[], metavar="PART", help=f"parts to leave out: {', '.join(PARTS)}")
    add("--sample-hz", type=float, default=10.0, metavar="HZ", help="samples per second (default: 10)")
    add("--window-s", type=float, default=10.0, metavar="S", help="windows: length of each (default: 10)")
    add("--zeus-s", type=float, default=15.0, metavar="S", help="zeus: length of each window (default: 15)")
    add("--zeus-rounds", type=int, default=2, metavar="N", help="zeus: idle and busy windows (default: 2 of each)")
    add("--overhead-s", type=float, default=4.5, metavar="S", help="overhead: length of one loop (default: 4.5)")
    add("--pairs", type=int, default=4, metavar="N", help="overhead: loops with and without, each (default: 4, even)")
    add("--share-s", type=float, default=20.0, metavar="S", help="overhead: time for the CPU share (default: 20)")
    add("--repeat-s", type=float, default=60.0, metavar="S", help="repeat: length of one run (default: 60)")
    add("--repeats", type=int, default=3, metavar="N", help="repeat: number of runs (default: 3)")
    add(
        "--budget-s", type=float, default=345.0, metavar="S", help="begin no further run after this time (default: 345)"
    )
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    load = workloads.MatrixLoad()
    record: dict[str, Any] = {
        "kind": "gainwatt-energy-agreement",
        "schema_version": 1,
        "stage": "energy_agreement",
        "status": "ok",
        "machine": workloads.machine(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
    }
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "windows": lambda: parts.windows(load, args.window_s, args.sample_hz, args.out),
        "zeus": lambda: parts.zeus(load, args.zeus_s, args.zeus_rounds, args.sample_hz),
        "overhead": lambda: parts.overhead(args.overhead_s, args.pairs, args.share_s, args.sample_hz),
        "repeat": lambda: parts.repeat(
            load, args.repeat_s, args.repeats, args.sample_hz, args.out, started + args.budget_s
        ),
    }
    for name, step in steps.items():
        if name in args.skip:
            record[name] = {"reason": "skipped by --skip"}
            continue
        print(f"{time.monotonic() - started:6.1f} s  {name} ...", file=sys.stderr, flush=True)
        try:
            record[name] = step()
        except Exception as error:  # noqa: BLE001 - one part that fails must not cost the others
            record[name] = {"reason": f"failed: {type(error).__name__}: {error}"}
        # Written after every part: a run that is cut off keeps what it has.
        write_json(args.out / "agreement.json", record)
    record["seconds"] = round(time.monotonic() - started, 1)
    return record


def report(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    machine = record["machine"]
    lines = [
        f"{machine['gpu']}, driver {machine['driver']}, torch {machine['torch']}, {record['seconds']:.0f} s in all",
        "",
    ]
    for name, title, columns in (
        (
            "windows",
            "Energy counter against integrated power",
            ("window", "seconds", "counter_j", "integral_j", "apart", "mean_w"),
        ),
        ("zeus", "This meter against ZeusMonitor", ("window", "seconds", "ours_j", "zeus_j", "apart")),
        ("overhead", "Decode-like loop with and without the sampler", ("arm", "n", "steps_per_s", "cv", "low", "high")),
        ("repeat", "The same work again", ("run", "seconds", "gross_j", "net_j", "mean_w", "temperature_c")),
    ):
        part = record.get(name, {})
        lines += [f"## {title}", ""]
        lines += _table(part.get("rows", []), columns) if part.get("rows") else [part.get("reason", "no rows")]
        lines += ["", *part.get("verdict", []), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(_cell(name, row.get(name)) for name in columns) + " |" for row in rows]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str | int):
        return str(value)
    return f"{value:+.3%}" if name == "apart" else f"{value:.3%}" if name == "cv" else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())

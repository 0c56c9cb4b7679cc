"""The serving benchmark of one checkpoint: speed, latency, memory and energy under every load of the section `serve`.

Each load is a cell with a record of its own, `VARIANT.SCHEME[.KERNEL].LOAD`; the engine is started once for all offline
loads and once, as a server, for all online ones, each start with a record too. A killed run goes on with the cells that
are left: those whose record is there, made of this checkpoint with these settings, are not measured again. What failed
is. The last record, VARIANT.SCHEME, lists them all.

    python scripts/benchmark_serving.py --study S --variant base --scheme bf16
    python scripts/benchmark_serving.py --study S --variant base --scheme bf16 --only offline-fixed-b16
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gainwatt import cli, environment
from gainwatt.checkpoint import read_manifest
from gainwatt.engines.processes import end_with_parent
from gainwatt.engines.start import context_tokens
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import read_items
from gainwatt.job import Job
from gainwatt.modeling import load_tokenizer
from gainwatt.record import STATUSES, file_sha256
from gainwatt.schemes import get_scheme
from gainwatt.serving.bench import Bench, quiet
from gainwatt.serving.columns import facts_numbers, tell
from gainwatt.serving.energy import Idle, idle_of
from gainwatt.serving.prompts import source
from gainwatt.serving.roofs import Roofs, machine_limits, machine_name
from gainwatt.serving.server import ServerError
from gainwatt.serving.sessions import Session, board_memory, session_of
from gainwatt.study import Cell, Layout, Study, check_cell
from gainwatt.study.serving import Serve
from gainwatt.study.serving_cells import STAGE, Load, Start, loads, served_cells, starts
from gainwatt.workflow import find_interpreter


def serve_of(study: Study, cell: Cell) -> Serve:
    """The study's section. Raises InputError where it has none, or does not serve this checkpoint."""
    if study.serve is None:
        raise InputError(
            f"the study {study.study!r} has no section serve",
            "add one, e.g. --set 'serve={engine: transformers, offline: {batch_sizes: [4]}}'; see config/README.md",
        )
    if cell not in served_cells(study):
        served = ", ".join(served.name for served in served_cells(study))
        raise InputError(f"the study does not serve {cell.name}", f"it serves: {served}")
    return study.serve


def make_bench(study: Study, serve: Serve, cell: Cell, args: argparse.Namespace) -> Bench:
    """Everything that the cells share; checkpoint and data are checked before any engine starts."""
    layout = Layout.of(study)
    checkpoint = read_manifest(args.checkpoint or layout.manifest(cell.variant, cell.scheme))
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=study.model.trust_remote_code)
    items = read_items(args.data or layout.data("test")) if "natural" in serve.lengths else []
    positions = context_tokens(checkpoint.folder)
    return Bench(
        study=study,
        serve=serve,
        cell=cell,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        source=source(tokenizer, items, study.data.prompt_template, serve, positions),
        roofs=Roofs(None, None, get_scheme(cell.scheme).compute_dtype or study.model.dtype, "not measured"),
        records=(args.record or layout.record(STAGE, cell.name)).parent,
        work=args.work or layout.work(STAGE, cell.name),
        logs=layout.log(STAGE, cell.name).parent,
    )


def with_roofs(bench: Bench) -> Bench:
    """The same with the machine's limits, measured once for each machine, where the study wants roofs."""
    limits, reason = None, "serve.limits is false"
    if bench.serve.limits:
        kept = bench.work.parent / f"limits.{bench.dtype}.json"
        # An engine's own environment may have no torch (llama.cpp's has none).
        python = sys.executable if find_spec("torch") else find_interpreter(bench.study, "core") or sys.executable
        limits, found = machine_limits(bench.dtype, kept, machine_name(environment.capture()), python)
        reason = found or ""
    return dataclasses.replace(bench, roofs=Roofs.of(bench.checkpoint.folder, limits, bench.dtype, reason or None))


def bring_up(bench: Bench, session: Session, start: Start, rested_w: float | None) -> tuple[str, str | None, Idle]:
    """Start the engine under a meter of its own: (status, reason, idle power at rest and with the engine loaded).

    `rested_w`: what the boards drew at rest before an earlier start of this process.
    """
    about = bench.about(start, f"start-{start.mode}")
    with Job(stage=STAGE, cell=about, study=bench.study, record=bench.record(start.name)) as job:
        bench.name_inputs(job)
        try:
            with job.phase("load"):
                session.start()
        except ServerError as error:
            job.status, job.reason = "failed", error.what
        else:
            facts = session.facts()
            job.settings["facts"] = facts
            tell(job.metrics, job.null_reasons, facts_numbers(facts, facts["startup_s"], *board_memory()))
    return job.status, job.reason, idle_of(job.energy(), rested_w)


def measure(bench: Bench, session: Session, start: Start, load: Load, idle: Idle) -> str:
    """One cell: its record says how it went. Returns the status."""
    name = start.record_name(load)
    print(f"{name} ...", file=sys.stderr, flush=True)
    with Job(
        stage=STAGE, cell=bench.about(start, load.name), study=quiet(bench.study), record=bench.record(name)
    ) as job:
        bench.name_inputs(job)
        job.settings |= {"load": load.as_dict(), "started": start.name, "idle": idle.as_dict()}
        session.measure(job, load, idle)
    told = job.metrics.get("throughput_tok_s")
    speed = f"{told:.1f} tok/s" if told is not None else job.reason or ""
    print(f"{name} {job.status} {speed}", file=sys.stderr, flush=True)
    return job.status


def refuse(bench: Bench, start: Start, load: Load, status: str, reason: str | None) -> None:
    """The record of a cell whose engine did not come up."""
    record = bench.record(start.record_name(load))
    with Job(stage=STAGE, cell=bench.about(start, load.name), study=quiet(bench.study), record=record) as job:
        bench.name_inputs(job)
        job.settings |= {"load": load.as_dict(), "started": start.name}
        job.status, job.reason = status, f"the engine did not start: {reason}"


def run_start(
    bench: Bench, start: Start, left: list[Load], rested_w: float | None
) -> tuple[dict[str, Any], float | None]:
    """Measure the loads that are left of one start. An engine that failed or ran out of memory is started anew.

    Returns how the engine ended (which of its processes were left, and whether the GPU's memory came back), and the
    watts of the boards at rest, to be handed to the next start.
    """
    session, idle = session_of(bench, start), Idle(rested_w)
    with contextlib.closing(session):
        for place, load in enumerate(left):
            if not session.usable():
                session.close()
                status, reason, idle = bring_up(bench, session, start, idle.at_rest_w)
                if status != "ok":
                    for unmeasured in left[place:]:
                        refuse(bench, start, unmeasured, status, reason)
                    break
            if measure(bench, session, start, load, idle) in ("oom", "failed"):
                session.close()
    return session.stopped, idle.at_rest_w


def write_grid(bench: Bench, record: Path, stopped: dict[str, dict[str, Any]]) -> bool:
    """The record that lists all cells, and how the engines of this run ended; False and none while cells are left."""
    found = {}
    for start in starts(bench.study, bench.cell):
        for load in loads(bench.serve, start.mode):
            name = start.record_name(load)
            entry = bench.current(name, load)
            if entry is None:
                return False
            found[bench.record(name)] = entry
    about = bench.cell.about | {"engine": bench.serve.engine, "load": "all"}
    # What an engine of an earlier run left behind stays known when this one had nothing to measure on it.
    earlier = bench.current(record.stem)
    known = earlier["settings"].get("stopped", {}) if earlier is not None else {}
    with Job(stage=STAGE, cell=about, study=quiet(bench.study), record=record) as job:
        bench.name_inputs(job)
        counted = Counter(entry["status"] for entry in found.values())
        job.metrics |= {"cells": len(found), **{f"cells_{status}": counted[status] for status in STATUSES}}
        job.settings["stopped"] = {**known, **stopped}
        job.settings["cells"] = {path.stem: file_sha256(path) for path in found}
    failed = sorted(path.stem for path, entry in found.items() if entry["status"] == "failed")
    if failed:
        print(f"failed: {', '.join(failed)}; the same command measures them again", file=sys.stderr, flush=True)
    return True


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    cli.add_cell_options(parser)
    parser.add_argument("--data", type=Path, metavar="FILE", help="test.jsonl (default: from the study)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="LOAD", help="measure this load alone, e.g. offline-fixed-b16"
    )
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    cell = check_cell(study, args.variant, args.scheme)
    serve = serve_of(study, cell)
    wanted = {load.name for mode in ("offline", "online") for load in loads(serve, mode)}
    unknown = sorted(set(args.only) - wanted)
    if unknown:
        raise InputError(f"the study has no load {unknown[0]!r}", f"it has: {', '.join(sorted(wanted))}")
    bench = make_bench(study, serve, cell, args)
    stopped: dict[str, dict[str, Any]] = {}
    rested_w: float | None = None
    for start in starts(study, cell):
        left = [load for load in bench.left(start) if not args.only or load.name in args.only]
        if left:
            bench = bench if bench.roofs.shape else with_roofs(bench)
            stopped[start.name], rested_w = run_start(bench, start, left, rested_w)
    if not write_grid(bench, args.record or layout.record(STAGE, cell.name), stopped):
        print("some cells are left: run the script again without --only", file=sys.stderr, flush=True)
    return 0


if __name__ == "__mp_main__":
    end_with_parent()  # a process of vLLM
if __name__ == "__main__":
    cli.run(main)

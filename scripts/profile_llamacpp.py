"""Profile llama.cpp as the study's section `llamacpp` says: every arm on every suite, metered alike, in one session.

Arms are the backends, the ablations (threads, layers offloaded, prompt batch, requests at once) and the quantization
types. They run in the order A B … B A, each in a process of its own; tokens and seconds of prefill and decode come from
llama.cpp's own counters. Writes session.json (meter, machine, trace) and one record per arm, with `.windows.parquet`
beside it. A killed session goes on with the visits that are left. Needs files.json, see scripts/fetch_gguf.py.

--list shows the arms without running any. --arms names those to run; the others' records stay as they are.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainwatt import cli, environment
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.llamacpp.arms import SESSION, Arm, arms_of
from gainwatt.llamacpp.files import GgufFile, read_files
from gainwatt.llamacpp.records import write_arm
from gainwatt.llamacpp.session import Session
from gainwatt.llamacpp.suites import Prompt, prompts_of, prompts_sha256
from gainwatt.llamacpp.visits import Visits
from gainwatt.record import text_sha256
from gainwatt.study import Study
from gainwatt.study.llamacpp import LlamaCpp


def section_of(study: Study) -> LlamaCpp:
    """The study's section. Raises InputError where it has none."""
    if study.llamacpp is None:
        raise InputError(
            f"the study {study.study!r} has no section llamacpp", "name one, e.g. --set 'llamacpp={source: FOLDER}'"
        )
    return study.llamacpp


def chosen(section: LlamaCpp, names: str | None) -> dict[str, Arm]:
    """The arms to run, by name. Raises InputError for one that the study does not have."""
    arms = {arm.name: arm for arm in arms_of(section)}
    if names is None:
        return arms
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in arms:
            raise InputError(f"the study has no arm {name!r}", f"it has: {', '.join(arms)}")
    return {name: arm for name, arm in arms.items() if name in wanted}


def measure(job: Job, section: LlamaCpp, arms: dict[str, Arm], args: argparse.Namespace) -> None:
    """Run what is left of the session, and write the record of every arm."""
    files, prompts = read_files(args.files), prompts_of(section)
    lacking = {arm.type for arm in arms.values()} - set(files)
    if lacking:
        raise InputError(f"{args.files} has no entry for {min(lacking)}", "run scripts/fetch_gguf.py with this study")
    job.add_input("prompts", prompts_sha256(prompts), prompts=len(prompts))
    job.add_input("files", text_sha256(str({name: entry.sha256 for name, entry in sorted(files.items())})))
    identity = text_sha256(f"{[entry['sha256'] for entry in job.inputs.values()]} {sorted(arms)}")
    visits = Visits(args.work / "visits.jsonl", identity)
    job.keep_energy(args.work / "energy.json", identity)
    session = Session(job, section, arms, files, prompts, visits)
    run(job, session)
    describe(job, session)
    unmetered = job.meter.sources.reasons | session.absent
    machine = environment.capture()
    written = [
        write_arm(job, arm, files[arm.type], visits.of(arm.name), about(prompts), unmetered, machine)
        for arm in arms.values()
    ]
    job.settings["arms"] = [path.stem for path in written]
    job.on_written(visits.remove)


def run(job: Job, session: Session) -> None:
    """Make the visits that are left, with a bar that says which arm is running."""
    total = len(session.schedule())
    job.metrics["visits"] = total
    job.metrics["resumed_visits"] = len(session.visits.done)
    bar: Any = cli.progress([], what="llama.cpp", total=total, unit="visit")
    bar.update(len(session.visits.done))
    for number, arm in session.run():
        bar.set_postfix_str(f"{arm.name}, round {number + 1}", refresh=True)
        bar.update(1)
    bar.update(total - bar.n)  # an arm that cannot be measured is not visited again
    bar.close()


def describe(job: Job, session: Session) -> None:
    """How many arms were measured, and why the others were not."""
    failed = {name: session.visits.failed(name) for name in session.arms}
    job.metrics["arms"] = len(session.arms)
    job.metrics["arms_measured"] = sum(row is None for row in failed.values())
    job.settings["not_measured"] = {
        name: {"status": row["status"], "reason": row["reason"]} for name, row in failed.items() if row is not None
    }
    job.settings["absent_boundaries"] = session.absent


def about(prompts: list[Prompt]) -> dict[str, Any]:
    """The prompts by suite, for the records."""
    found: dict[str, Any] = {}
    for prompt in prompts:
        found.setdefault(prompt.suite, []).append({"id": prompt.id, "template": prompt.template, "text": prompt.text})
    return found


def show(arms: dict[str, Arm], files: Path) -> None:
    """Print every arm with its settings, and what is known of its file."""
    known: dict[str, GgufFile] = read_files(files) if files.exists() else {}
    for arm in arms.values():
        entry = known.get(arm.type)
        where = "file not brought yet" if entry is None else entry.path or entry.reason
        settings = {name: value for name, value in asdict(arm).items() if name not in ("name", "compared")}
        print(f"{arm.name}: {', '.join(f'{k}={v}' for k, v in settings.items())}; {where}")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--arms", metavar="NAMES", help="only these arms, with commas between them")
    parser.add_argument("--list", action="store_true", help="show the arms, and stop")
    parser.add_argument("--files", type=Path, metavar="FILE", help="list of GGUF files (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record of the session; the arms' lie beside it")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for unfinished visits")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    section = section_of(study)
    arms = chosen(section, args.arms)
    args.files = args.files or layout.gguf / "files.json"
    args.record = args.record or layout.record("profile_llamacpp", SESSION)
    args.work = args.work or layout.work("profile_llamacpp", SESSION)
    if args.list:
        show(arms, args.files)
        return 0
    with Job(stage="profile_llamacpp", cell={"arm": SESSION}, study=study, record=args.record) as job:
        measure(job, section, arms, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Run the lm-eval tasks that the study's section `tasks` names on one cell, by lm-eval's own code and HF backend.

Writes the record, and beside it `.samples.parquet` with every item, answer and score. Runs in the environment lm-eval
(make env NAME=lm-eval). A killed job goes on with the tasks that are left.

--list shows what each task needs before any model is loaded. --write-example DIR writes a small task (yaml and jsonl)
made of the study's own test questions, to try things without the hub.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_json
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.gsm8k.data import read_items
from gainwatt.job import Job
from gainwatt.modeling import NO_GPU_MEMORY, load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.oom import is_out_of_memory
from gainwatt.record import text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import Layout, Study
from gainwatt.study.quality import Tasks
from gainwatt.tasks import example, harness
from gainwatt.tasks.results import keep, metrics_of


def settings_of(study: Study) -> Tasks:
    """The study's section. Raises InputError where it has none."""
    if study.tasks is None:
        raise InputError(
            f"the study {study.study!r} has no section tasks", "name tasks, e.g. --set 'tasks={names: [hellaswag]}'"
        )
    return study.tasks


def load(job: Job, study: Study, args: argparse.Namespace) -> tuple[Checkpoint, Any, Any]:
    """Checkpoint, model and tokenizer."""
    scheme = get_scheme(args.scheme)
    if scheme.loader("transformers") is None:
        raise UnavailableError(f"lm-eval's HF backend uses transformers, which does not read {scheme.name}")
    checkpoint = read_manifest(args.checkpoint)
    job.add_input(
        "checkpoint", checkpoint.sha256, variant=checkpoint.variant, scheme=checkpoint.scheme,
        parent_sha256=checkpoint.parent_sha256,
    )  # fmt: skip
    remote_code = study.model.trust_remote_code
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=remote_code)
    dtype = args.scheme if scheme.dense else study.model.dtype
    job.settings["effective"] = {"dtype": scheme.compute_dtype or dtype}
    return checkpoint, load_model(checkpoint, scheme, dtype, trust_remote_code=remote_code), tokenizer


def evaluate(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Find the tasks and their data, load the model, run task by task, and fill the record."""
    settings = settings_of(study)
    with job.phase("tasks"):
        manager = harness.find_tasks(settings)
        loaded = {name: harness.load_task(manager, settings, name, kept=args.kept) for name in settings.names}
    with job.phase("load"):
        checkpoint, model, tokenizer = load(job, study, args)
    identity = text_sha256(f"{study.settings_sha256('evaluate_tasks')} {checkpoint.sha256} {args.scheme}")
    reset_peak_memory()
    runner = Runner(model, tokenizer, manager, settings)
    kept = []
    with job.phase("evaluate"):
        for name in settings.names:
            path = args.work / f"{name}.json"
            found = _finished(path, identity)
            if found is None:
                found = runner.run(loaded[name])
                write_json(path, {"identity": identity, "kept": found})
            kept.append(found)
            job.on_written(path.unlink)
    metrics, reasons = metrics_of(kept)
    job.metrics.update(metrics)
    for name, reason in reasons.items():
        job.null(name, reason)
    describe(job, runner, kept)
    job.add_table("samples", [row for part in kept for row in part["samples"]])


class Runner:
    """Runs tasks with a batch size that is halved when memory runs out."""

    def __init__(self, model: Any, tokenizer: Any, manager: Any, settings: Tasks) -> None:
        self.model, self.tokenizer, self.manager, self.settings = model, tokenizer, manager, settings
        self.batch_size = settings.batch_size
        self.events: list[str] = []

    def run(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """What is kept of one task or group."""
        while True:
            wrapped = harness.wrap_model(self.model, self.tokenizer, self.settings, self.batch_size)
            try:
                return keep(harness.run_task(wrapped, self.manager, loaded, self.settings))
            except (RuntimeError, MemoryError) as error:
                if self.batch_size == 1 or not is_out_of_memory(error):
                    raise
            before, self.batch_size = self.batch_size, self.batch_size // 2
            self.events.append(f"out of memory at batch size {before}: halved to {self.batch_size}")


def _finished(path: Path, identity: str) -> dict[str, Any] | None:
    """A task that an earlier, killed run of this job finished."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found["kept"] if found.get("identity") == identity else None


def describe(job: Job, runner: Runner, kept: list[dict[str, Any]]) -> None:
    """Settings and memory of a finished run."""
    from importlib.metadata import version

    job.settings["lm_eval"] = {
        "version": version("lm_eval"),
        "tasks": {k: v for p in kept for k, v in p["tasks"].items()},
    }
    job.settings["effective"]["batch_size"] = runner.batch_size
    job.settings["events"] = runner.events
    for task, about in job.settings["lm_eval"]["tasks"].items():
        job.add_input(f"items.{task}", about["items_sha256"], items=about["items"])
    job.measured(memory_mib(), NO_GPU_MEMORY)


def show(settings: Tasks, kept: Path) -> None:
    """Load every task's data and print what it is; errors say what is missing and how to bring it."""
    manager = harness.find_tasks(settings)
    for name in settings.names:
        for task, found in harness.load_task(manager, settings, name, kept=kept)["tasks"].items():
            print(f"{task}: {len(found.eval_docs)} items of {found.config.dataset_path}, {found.config.output_type}")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    cli.add_cell_options(parser, required=False)
    parser.add_argument("--list", action="store_true", help="show what the tasks need, and stop")
    parser.add_argument("--write-example", type=Path, metavar="DIR", help="write a small task of your own, and stop")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    if args.write_example:
        yaml = example.write_example(args.write_example, read_items(layout.data("test")))
        print(f"wrote {yaml}: --set 'tasks={{names: [{example.NAME}], include_path: {args.write_example}}}'")
        return 0
    settings = settings_of(study)
    if settings.offline:
        harness.stay_offline()
    if args.list:
        show(settings, harness.kept_data(layout))
        return 0
    run_cell(study, layout, args)
    return 0


def run_cell(study: Study, layout: Layout, args: argparse.Namespace) -> None:
    """One cell with its record. Raises InputError where the command line names none."""
    if not (args.variant and args.scheme):
        raise InputError("no cell is named", "give --variant and --scheme, or --list, or --write-example")
    cell = cli.cell_of(args, study, layout, "evaluate_tasks")
    args.kept = harness.kept_data(layout)
    with Job(stage="evaluate_tasks", cell=cell.about, study=study, record=args.record) as job:
        evaluate(job, study, args)


if __name__ == "__main__":
    cli.run(main)

"""Evaluate one cell of the accuracy matrix: greedy answers to every test question, scored, with time and energy.

Writes the record, and beside it `.items.parquet` with every question, answer and score. A killed evaluation goes on
with the questions that are left.

Further data sets of the same checkpoint are evaluated by the same start of the engine:

    evaluate_gsm8k.py --study S --variant base --scheme bf16 --also validation.jsonl results/validation.json

Each has a record of its own. The later ones hold no `load` phase, and their net joules are null where the board was
not at rest before: the engine sat on it. Data sets whose record is there already, with these settings, are left out.

With --serve or --endpoint the answers come from a server. The record is then one of the stage evaluate_endpoint, and
where the cell's own record is there, it says item by item how far the two agree (see compare_engines.py).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.engines.base import Engine, EngineError, Memory, Request, Solved
from gainwatt.engines.processes import end_with_parent
from gainwatt.engines.served import STAGE as SERVED_STAGE
from gainwatt.engines.served import Served, add_options, served_of
from gainwatt.engines.start import context_tokens, engine_for, start_engine
from gainwatt.errors import InputError, RecordError
from gainwatt.evaluation.items import write_items
from gainwatt.evaluation.metrics import item_rows, summarize
from gainwatt.evaluation.parity import note_parity
from gainwatt.evaluation.partial import PartialResults
from gainwatt.evaluation.reference import solved_items, summarize_loss
from gainwatt.evaluation.warmth import NO_BATCHES, batch_steps
from gainwatt.gsm8k.data import Item, read_items
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.job import Job
from gainwatt.modeling import load_tokenizer, memory_mib
from gainwatt.record import file_sha256, read_record, text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import Layout, Study, check_cell


@dataclass(frozen=True)
class Part:
    """One data set to evaluate: its file, its record, and the folder of its unfinished results."""

    data: Path
    record: Path
    work: Path


@dataclass(frozen=True)
class Asked:
    """What the engine is asked: per item its prompt as text and in tokens, and with its reference solution."""

    items: list[Item]
    prompts: dict[int, str]
    requests: list[Request]
    solved: list[Solved]


class Loaded:
    """The checkpoint, its tokenizer and the engine: started once, in the first part that needs them."""

    def __init__(self, study: Study, manifest: Path, scheme: str, served: Served | None = None) -> None:
        self.study = study
        self.served = served
        self.manifest = manifest
        self.scheme = get_scheme(scheme)
        self.checkpoint: Checkpoint | None = None
        self.tokenizer: Any = None
        self.engine: Engine | None = None
        self.started_for = ""

    def start(self, job: Job, part: Part) -> None:
        """Start the engine unless an earlier part has; name checkpoint and start in the record."""
        if self.engine is None:
            self.checkpoint = read_manifest(self.manifest)
            trusted = self.study.model.trust_remote_code
            self.tokenizer = load_tokenizer(self.checkpoint.folder, trust_remote_code=trusted)
            if self.served is not None:
                self.engine = self.served.start(self.study, self.checkpoint, self.scheme.name, self.tokenizer)
            else:
                self.engine = start_engine(self.study, self.checkpoint, self.scheme, self.tokenizer)
            self.started_for = part.record.name
        checkpoint, _, _ = self.running()
        job.add_input(
            "checkpoint",
            checkpoint.sha256,
            variant=checkpoint.variant,
            scheme=checkpoint.scheme,
            parent_sha256=checkpoint.parent_sha256,
        )
        if self.started_for != part.record.name:
            job.settings["engine_started_for"] = self.started_for

    def running(self) -> tuple[Checkpoint, Any, Engine]:
        """Checkpoint, tokenizer and engine, once started."""
        assert self.checkpoint is not None  # noqa: S101 - for the type checker
        assert self.engine is not None  # noqa: S101
        return self.checkpoint, self.tokenizer, self.engine

    def close(self) -> None:
        """End the engine; the next `start` begins anew."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()


def make_requests(tokenizer: Any, prompts: dict[int, str], *, max_prompt_tokens: int) -> list[Request]:
    """Tokenized prompts. Raises InputError naming the first item whose prompt is too long."""
    requests = []
    for index, prompt in prompts.items():
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if len(ids) > max_prompt_tokens:
            raise InputError(
                f"the prompt of test item {index} has {len(ids)} tokens, more than evaluate.max_prompt_tokens = "
                f"{max_prompt_tokens}",
                "raise the limit (the model's context must hold prompt and answer) or remove the item",
            )
        requests.append(Request(index, tuple(ids)))
    return requests


def check_context(limit: int | None, requests: Sequence[Request], max_new_tokens: int) -> None:
    """Raise InputError when the longest prompt and answer do not fit into the model's context."""
    needed = max(len(request.token_ids) for request in requests) + max_new_tokens
    if limit is not None and needed > limit:
        raise InputError(
            f"the longest prompt and evaluate.max_new_tokens need {needed} positions, and the model has {limit}",
            "lower evaluate.max_new_tokens; with vllm, evaluate.vllm.max_model_tokens limits it too",
        )


def generate(job: Job, engine: Engine, requests: list[Request], partial: PartialResults) -> None:
    """Add all completions that are not there yet to `partial`; shows progress with tokens per second."""
    waiting = [request for request in requests if request.index not in partial.done]
    job.metrics["resumed_items"] = len(requests) - len(waiting)
    bar: Any = cli.progress([], what="generate", total=len(requests), unit="item")
    bar.update(len(partial.done))
    told = len(engine.events)
    with contextlib.closing(bar), job.phase("generate", short_ok=False):
        last = time.monotonic()
        try:
            for done in engine.generate(waiting):
                now = time.monotonic()
                partial.add(done, seconds=now - last, events=engine.events[told:])
                told = len(engine.events)
                bar.set_postfix_str(f"{sum(c.tokens for c in done) / (now - last):.0f} tok/s", refresh=False)
                bar.update(len(done))
                last = now
        except EngineError as error:
            raise EngineError(
                f"{error.what} ({len(partial.done)} of {len(requests)} items were finished)",
                f"{error.hint}; run the same command again: it goes on with the items that are left",
            ) from error


def ask(study: Study, loaded: Loaded, items: list[Item]) -> Asked:
    """Prompts and reference solutions in tokens. Raises InputError, naming the item, for what does not fit."""
    checkpoint, tokenizer, engine = loaded.running()
    settings, template = study.evaluate, study.data.prompt_template
    prompts = {item.index: chat_prompt(tokenizer, item.question, template) for item in items}
    requests = make_requests(tokenizer, prompts, max_prompt_tokens=settings.max_prompt_tokens)
    limit = engine.settings.get("max_model_len") or context_tokens(checkpoint.folder)
    check_context(limit, requests, settings.max_new_tokens)
    solved: list[Solved] = []
    if settings.reference_nll and (loaded.served is None or loaded.served.scores):
        solved = solved_items(
            tokenizer,
            items,
            template=template,
            max_reference_tokens=settings.max_reference_tokens,
            context_tokens=limit,
        )
    return Asked(items, prompts, requests, solved)


def evaluate(job: Job, study: Study, loaded: Loaded, part: Part) -> None:
    """Load, generate, score, and fill the record."""
    with contextlib.nullcontext() if loaded.engine is not None else job.phase("load"):
        if loaded.served is None:
            engine_for(study, loaded.scheme)
        items = read_items(part.data)
        data_sha256 = file_sha256(part.data)
        job.add_input("data", data_sha256)
        loaded.start(job, part)
    checkpoint, _, engine = loaded.running()
    job.metrics["weights_on_disk_bytes"] = checkpoint.weight_bytes
    asked = ask(study, loaded, items)
    identity = f"{study.settings_sha256('evaluate_gsm8k')} {checkpoint.sha256} {data_sha256} {loaded.scheme.name}"
    if loaded.served is not None:
        identity += f" {loaded.served}"
    partial = PartialResults(part.work / "completions.jsonl", text_sha256(identity))
    job.keep_energy(part.work / "energy.json", text_sha256(identity))
    events, told = list(partial.events), len(engine.events)
    with job.phase("warm_up"):
        engine.warm_up([request for request in asked.requests if request.index not in partial.done] or asked.requests)
    generate(job, engine, asked.requests, partial)
    memory = engine.memory()
    rows = item_rows(items, partial.done, asked.prompts)
    if asked.solved:
        with job.phase("reference"):
            job.metrics.update(summarize_loss(engine.score(asked.solved)))
    describe(job, rows, memory, seconds=partial.seconds)
    job.measured(batch_steps(partial.done.values()), NO_BATCHES)
    dtype = loaded.scheme.compute_dtype or study.model.dtype
    job.settings["effective"] = {**engine.settings, "dtype": dtype, "batch_size_final": engine.batch_size}
    job.settings["events"] = [*events, *engine.events[told:]]
    if loaded.served is not None:
        note_parity(job, Layout.of(study).record("evaluate_gsm8k", f"{checkpoint.variant}.{loaded.scheme.name}"), rows)
    items_path = part.record.with_suffix(".items.parquet")
    write_items(items_path, rows)
    job.add_output("items", items_path)
    job.on_written(partial.remove)


def describe(job: Job, rows: list[dict[str, Any]], memory: Memory, *, seconds: float) -> None:
    """Metrics of a finished evaluation; `seconds` is the engine's time for all answers."""
    job.metrics.update(summarize(rows), generate_s=seconds)
    job.metrics["throughput_tok_s"] = job.metrics["generated_tokens"] / seconds
    job.metrics["peak_rss_mib"] = memory_mib()["peak_rss_mib"]
    job.metrics.update(memory.metrics)
    for metric, reason in memory.null_reasons.items():
        job.null(metric, reason)


def is_measured(study: Study, manifest: Path, part: Part, stage: str) -> bool:
    """Whether the record of a part is there, made of this checkpoint and data with these settings."""
    try:
        record = read_record(part.record, stage=stage)
    except RecordError:
        return False
    inputs = record["inputs"]
    wanted = {
        "settings": study.settings_sha256(stage),
        "checkpoint": read_manifest(manifest, verify=False).sha256,
        "data": file_sha256(part.data),
    }
    return record["status"] == "ok" and all(inputs.get(name, {}).get("sha256") == is_ for name, is_ in wanted.items())


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    cli.add_cell_options(parser)
    parser.add_argument("--data", type=Path, metavar="FILE", help="test.jsonl (default: from the study)")
    parser.add_argument(
        "--also", type=Path, nargs=2, action="append", default=[], metavar=("DATA", "RECORD"),
        help="evaluate this data set too, by the same start of the engine; may be given several times",
    )  # fmt: skip
    add_options(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = options().parse_args(argv)
    study, layout = cli.study_of(args)
    cell = check_cell(study, args.variant, args.scheme)
    served = served_of(args, study, layout.log(SERVED_STAGE, f"{cell.name}.server"))
    stage, engine = ("evaluate_gsm8k", study.evaluate.engine) if served is None else (SERVED_STAGE, served.name)
    name = cell.name if served is None else f"{cell.name}.{engine}"
    manifest = args.checkpoint or layout.manifest(cell.variant, cell.scheme)
    work = args.work or layout.work(stage, name)
    parts = [Part(args.data or layout.data("test"), args.record or layout.record(stage, name), work)]
    parts += [Part(data, record, work / f"also-{record.stem}") for data, record in args.also]
    about = cell.about | {"engine": engine}
    with contextlib.closing(Loaded(study, manifest, cell.scheme, served)) as loaded:
        for part in parts:
            if len(parts) > 1 and is_measured(study, manifest, part, stage):
                print(f"{part.record} is there already", file=sys.stderr, flush=True)
                continue
            with Job(stage=stage, cell=about, study=study, record=part.record) as job:
                evaluate(job, study, loaded, part)
            if job.status != "ok":
                loaded.close()  # an engine that ran out of memory may not work any more
    return 0


if __name__ == "__mp_main__":
    end_with_parent()  # a process of vLLM
if __name__ == "__main__":
    cli.run(main)

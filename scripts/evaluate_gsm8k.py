"""Evaluate one cell of the accuracy matrix: greedy answers to every test question, scored, with time and energy.

Writes the record, and beside it `.items.parquet` with every question, answer and score. A killed evaluation goes on
with the questions that are left.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import atomic_path
from gainwatt.checkpoint import read_manifest
from gainwatt.engines.base import Completion, Request
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError
from gainwatt.evaluation.metrics import item_rows, summarize
from gainwatt.evaluation.partial import PartialResults
from gainwatt.evaluation.reference import reference_loss
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.job import Job
from gainwatt.modeling import load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.record import file_sha256, text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import Study, check_cell


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


def check_context(model: Any, requests: Sequence[Request], max_new_tokens: int) -> None:
    """Raise InputError when the longest prompt and answer do not fit into the model's context."""
    limit = getattr(model.config, "max_position_embeddings", None)
    needed = max(len(request.token_ids) for request in requests) + max_new_tokens
    if limit is not None and needed > limit:
        raise InputError(
            f"the longest prompt and evaluate.max_new_tokens need {needed} positions, and the model has {limit}",
            "lower evaluate.max_new_tokens",
        )


def generate(
    job: Job, engine: TransformersEngine, requests: list[Request], partial: PartialResults
) -> dict[int, Completion]:
    """All completions, those of an earlier, killed run included; shows progress with tokens per second."""
    waiting = [request for request in requests if request.index not in partial.done]
    job.metrics["resumed_items"] = len(requests) - len(waiting)
    bar: Any = cli.progress([], what="generate", total=len(requests), unit="item")
    bar.update(len(partial.done))
    with job.phase("generate"):
        for batch in engine.generate(waiting):
            partial.add(batch)
            bar.set_postfix_str(f"{sum(c.tokens for c in batch) / batch[0].batch_s:.0f} tok/s", refresh=False)
            bar.update(len(batch))
    bar.close()
    return partial.done


def evaluate(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Load, generate, score, and fill the record."""
    scheme = get_scheme(args.scheme)
    dtype = args.scheme if scheme.dense else study.model.dtype
    settings = study.evaluate
    with job.phase("load"):
        checkpoint = read_manifest(args.checkpoint)
        items = read_items(args.data)
        data_sha256 = file_sha256(args.data)
        job.add_input(
            "checkpoint",
            checkpoint.sha256,
            variant=checkpoint.variant,
            scheme=checkpoint.scheme,
            parent_sha256=checkpoint.parent_sha256,
        )
        job.add_input("data", data_sha256)
        tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=study.model.trust_remote_code)
        model = load_model(checkpoint, scheme, dtype, trust_remote_code=study.model.trust_remote_code)
        job.metrics["weights_on_disk_bytes"] = checkpoint.weight_bytes
        job.metrics["parameter_bytes"] = sum(p.numel() * p.element_size() for p in model.parameters())
    prompts = {item.index: chat_prompt(tokenizer, item.question, study.data.prompt_template) for item in items}
    requests = make_requests(tokenizer, prompts, max_prompt_tokens=settings.max_prompt_tokens)
    check_context(model, requests, settings.max_new_tokens)
    engine = TransformersEngine(
        model,
        tokenizer,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        repetition_penalty=settings.repetition_penalty,
    )
    identity = text_sha256(f"{study.settings_sha256('evaluate_gsm8k')} {checkpoint.sha256} {data_sha256} {args.scheme}")
    partial = PartialResults(args.work / "completions.jsonl", identity)
    with job.phase("warm_up"):
        engine.warm_up(requests)
    reset_peak_memory()
    after_load = memory_mib()["allocated_mib"]
    completions = generate(job, engine, requests, partial)
    job.metrics["peak_allocated_mib"] = memory_mib()["peak_allocated_mib"]
    rows = item_rows(items, completions, prompts)
    if settings.reference_nll:
        with job.phase("reference"):
            loss = reference_loss(
                model, tokenizer, items, template=study.data.prompt_template, batch_size=settings.batch_size,
                max_reference_tokens=settings.max_reference_tokens,
            )  # fmt: skip
        job.metrics.update(loss)
    describe(job, engine, rows, dtype=dtype, after_load_mib=after_load)
    write_items(job, args.record.with_suffix(".items.parquet"), rows)
    job.on_written(partial.remove)


def describe(
    job: Job, engine: TransformersEngine, rows: list[dict[str, Any]], *, dtype: str, after_load_mib: float | None
) -> None:
    """Metrics and settings of a finished evaluation."""
    job.metrics.update(summarize(rows))
    batches = {(row["batch_s"], row["batch_size"]) for row in rows}
    seconds = sum(batch_s for batch_s, _ in batches)
    job.metrics.update(generate_s=seconds, throughput_tok_s=job.metrics["generated_tokens"] / seconds)
    job.metrics["peak_rss_mib"] = memory_mib()["peak_rss_mib"]
    if after_load_mib is None:
        for metric in ("allocated_after_load_mib", "peak_allocated_mib"):
            job.null(metric, "no GPU: torch counts allocated memory on GPUs only; see peak_rss_mib")
    else:
        job.metrics["allocated_after_load_mib"] = after_load_mib
    job.settings["effective"] = {**engine.settings, "dtype": dtype}
    job.settings["events"] = engine.events


def write_items(job: Job, path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the per-item table beside the record."""
    import pyarrow as pa
    from pyarrow import parquet

    with atomic_path(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows), temporary, compression="zstd")
    job.add_output("items", path)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="base or grpo-s<seed>")
    parser.add_argument("--scheme", required=True, help="a scheme of the study's matrix, e.g. bnb-nf4")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="manifest to evaluate (default: from the study)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="test.jsonl (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for unfinished results (default: from the study)"
    )
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    cell = check_cell(study, args.variant, args.scheme)
    args.checkpoint = args.checkpoint or layout.manifest(cell.variant, cell.scheme)
    args.data = args.data or layout.data("test")
    args.record = args.record or layout.record("evaluate_gsm8k", cell.name)
    args.work = args.work or layout.work("evaluate_gsm8k", cell.name)
    about = {"variant": cell.variant, "scheme": cell.scheme, "engine": study.evaluate.engine}
    with Job(stage="evaluate_gsm8k", cell=about, study=study, record=args.record) as job:
        evaluate(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

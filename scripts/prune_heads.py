"""Pruning curve of one variant: switch off the heads with the lowest scores, share by share, against random heads and
heads with small weights, and measure perplexity, answers and energy at each point.

The heads are switched off in the loaded model (their columns of the output projection become zero) and restored after
each point, which is checked by a hash of the weights. The unpruned model is measured first, by the same items and text:
everything is paired with it. Answers are generated with transformers, whatever engine the study names: no other one
lets weights be changed between two points. Unquantized checkpoints only: zero has no exact code in packed weights.

Writes the record, and beside it `.points.parquet`, `.items.parquet` (a row per point and item) and `.windows.parquet`
(a row per point and window). A killed job goes on with the points that are left.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.engines.base import Request
from gainwatt.engines.start import context_tokens
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.heads.modules import Head, HeadLayer, all_heads, find_heads
from gainwatt.heads.partial import MeasuredPoints
from gainwatt.heads.points import ITEM_COLUMNS, Measurer, point_metrics
from gainwatt.heads.prune import (
    Point,
    check_dense,
    chosen,
    points,
    pruned,
    removable_parameters,
    scored_heads,
)
from gainwatt.heads.weights import output_norms
from gainwatt.job import Job
from gainwatt.modeling import load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.perplexity.corpus import read_corpus
from gainwatt.perplexity.measure import Scorer
from gainwatt.perplexity.windows import encode
from gainwatt.record import file_sha256, read_record, text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import Study
from gainwatt.study.heads import Prune
from gainwatt.tables.results import read_sidecar


def settings_of(study: Study) -> Prune:
    """The study's section. Raises InputError where it has none."""
    if study.heads is None or study.heads.prune is None:
        raise InputError(
            f"the study {study.study!r} has no section heads.prune",
            "add `heads: {prune: {}}`, or --set 'heads.prune={}'",
        )
    return study.heads.prune


def read_scores(job: Job, args: argparse.Namespace, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Rows of the checkpoint's own scores. Raises InputError for those of another one."""
    record = read_record(args.scores, stage="score_heads") | {"path": str(args.scores)}
    scored = record["inputs"].get("checkpoint", {}).get("sha256")
    if record["status"] != "ok" or scored != checkpoint.sha256:
        raise InputError(
            f"{args.scores} ({record['status']}) does not hold the scores of the checkpoint {args.checkpoint}",
            "run score_heads.py on this checkpoint first",
        )
    columns = read_sidecar(record, "heads")
    job.add_input("scores", file_sha256(args.scores), record=args.scores.name)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def prepare(job: Job, study: Study, args: argparse.Namespace, checkpoint: Checkpoint, model: Any) -> Measurer:
    """Questions, text, engine and scorer; data and text become inputs of the record."""
    settings, evaluate, template = settings_of(study), study.evaluate, study.data.prompt_template
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=study.model.trust_remote_code)
    items = read_items(args.data, limit=settings.items)
    job.add_input("data", file_sha256(args.data), items=len(items))
    corpus = read_corpus(settings.perplexity, args.layout.data)
    job.add_input("corpus", corpus.sha256, source=corpus.source, documents=len(corpus.documents))
    text = settings.perplexity
    encoded = encode(
        tokenizer, corpus.documents, window=text.window, stride=text.stride, prefix=text.prefix,
        max_tokens=text.max_tokens,
    )  # fmt: skip
    prompts = {item.index: chat_prompt(tokenizer, item.question, template) for item in items}
    requests = [
        Request(index, tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"]))
        for index, prompt in prompts.items()
    ]
    longest = max(len(request.token_ids) for request in requests) + evaluate.max_new_tokens
    limit = context_tokens(checkpoint.folder)
    if limit is not None and max(longest, text.window) > limit:
        raise InputError(
            f"the longest prompt with its answer needs {longest} positions, a window {text.window}, and the model has "
            f"{limit}",
            "lower evaluate.max_new_tokens or heads.prune.perplexity.window",
        )
    engine = TransformersEngine(
        model, tokenizer, batch_size=evaluate.batch_size, max_new_tokens=evaluate.max_new_tokens,
        repetition_penalty=evaluate.repetition_penalty,
    )  # fmt: skip
    scorer = Scorer(model, encoded, batch_size=text.batch_size, pad_token_id=tokenizer.pad_token_id)
    return Measurer(engine, items, prompts, requests, encoded, scorer)


def run(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Load, measure every point that is left, and fill the record."""
    settings = settings_of(study)
    with job.phase("load"):
        checkpoint = read_manifest(args.checkpoint)
        job.add_input("checkpoint", checkpoint.sha256, variant=checkpoint.variant, scheme=checkpoint.scheme)
        rows = read_scores(job, args, checkpoint)
        scheme = get_scheme(args.scheme)
        model = load_model(checkpoint, scheme, args.scheme, trust_remote_code=study.model.trust_remote_code)
        layers = find_heads(model)
        check_dense(layers)
        scores = scored_heads(layers, rows, settings.score)
        norms = dict(zip(all_heads(layers), output_norms(layers) or [], strict=True))
        measurer = prepare(job, study, args, checkpoint, model)
    wanted = {point: chosen(point, all_heads(layers), scores, norms, settings.seed) for point in points(settings)}
    inputs = {name: entry["sha256"] for name, entry in job.inputs.items()}
    partial = MeasuredPoints(args.work / "points.jsonl", text_sha256(f"{sorted(inputs.items())} {args.scheme}"))
    job.keep_energy(args.work / "energy.json", text_sha256(f"{sorted(inputs.items())} {args.scheme}"))
    resumed = set(partial.done)
    with job.phase("warm_up"):
        measurer.warm_up()
    reset_peak_memory()
    measure(job, layers, wanted, measurer, partial)
    hidden = model.config.get_text_config().hidden_size
    tables = collect(wanted, measurer, partial, resumed, layers, hidden)
    fill(job, study, args, measurer, tables["points"], resumed)
    for name, table in tables.items():
        job.add_table(name, table)
    job.on_written(partial.remove)


def measure(
    job: Job, layers: list[HeadLayer], wanted: dict[Point, list[Head]], measurer: Measurer, partial: MeasuredPoints
) -> None:
    """Every point that is not there yet, with its heads switched off and brought back."""
    bar: Any = cli.progress([], what="prune", total=len(wanted), unit="point")
    bar.update(len(partial.done))
    for point, heads in wanted.items():
        if point.name in partial.done:
            continue
        bar.set_postfix_str(f"{point.name}: {len(heads)} heads off", refresh=False)
        with pruned(layers, heads) as told:
            result = measurer.measure(point.name, job.phase)
        partial.append({"point": point.name, "result": result | told})
        bar.update()
    bar.close()


def collect(
    wanted: dict[Point, list[Head]],
    measurer: Measurer,
    partial: MeasuredPoints,
    resumed: set[str],
    layers: list[HeadLayer],
    hidden_size: int,
) -> dict[str, list[dict[str, Any]]]:
    """The tables beside the record: points, items and windows."""
    tables: dict[str, list[dict[str, Any]]] = {"points": [], "items": [], "windows": []}
    for point, heads in wanted.items():
        result = partial.done[point.name]
        items, windows = measurer.rows(result), measurer.window_rows(result)
        shas = {name: result[f"weights_sha256_{name}"] for name in ("before", "pruned", "after")}
        tables["points"].append(
            {
                "point": point.name, "strategy": point.strategy, "percent": float(point.percent), "draw": point.draw,
                "n_pruned_heads": len(heads), "heads": [f"L{head.layer}H{head.head}" for head in heads],
                "removable_parameters": removable_parameters(layers, heads, hidden_size),
                **point_metrics(items, windows),
                "perplexity_s": result["perplexity_s"], "generate_s": result["generate_s"],
                "resumed": point.name in resumed,
                **{f"weights_sha256_{name}": sha for name, sha in shas.items()},
            }
        )  # fmt: skip
        tables["items"] += [{"point": point.name, **{name: row[name] for name in ITEM_COLUMNS}} for row in items]
        tables["windows"] += [{"point": point.name, **row} for row in windows]
    return tables


def fill(
    job: Job, study: Study, args: argparse.Namespace, measurer: Measurer, rows: list[dict[str, Any]], resumed: set[str]
) -> None:
    """Metrics and settings of the record."""
    memory = measurer.engine.memory()
    job.metrics |= {
        "points": len(rows),
        "resumed_points": len(resumed),
        "items": len(measurer.items),
        "windows": len(measurer.encoded.windows),
        "weights_restored": all(row["weights_sha256_after"] == rows[0]["weights_sha256_before"] for row in rows),
        "accuracy_unpruned": rows[0]["accuracy"],
        "peak_rss_mib": memory_mib()["peak_rss_mib"],
        **memory.metrics,
    }
    for name, why in memory.null_reasons.items():
        job.null(name, why)
    if rows[0]["perplexity"] is None:
        job.null("perplexity_unpruned", "the loss is no number, or too large for its exponential")
    else:
        job.metrics["perplexity_unpruned"] = rows[0]["perplexity"]
    dtype = get_scheme(args.scheme).compute_dtype or study.model.dtype
    job.settings["effective"] = {
        **measurer.engine.settings, "dtype": dtype, "batch_size_final": measurer.engine.batch_size,
        "window_batch_size_final": measurer.scorer.batch_size,
    }  # fmt: skip
    job.settings["events"] = [*measurer.engine.events, *measurer.scorer.events]


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="base or grpo-s<seed>")
    parser.add_argument("--scheme", help="an unquantized scheme of the matrix (default: the reference)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="manifest (default: from the study)")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="record of score_heads (default: from the study)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="test.jsonl (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for finished points (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    settings_of(study)
    args.scheme = args.scheme or study.quantize.reference
    cell = cli.cell_of(args, study, layout, "prune_heads")
    if not get_scheme(cell.scheme).dense:
        raise InputError(
            f"heads of a {cell.scheme} checkpoint cannot be pruned: zero has no exact code in packed weights",
            f"prune the unquantized one: --scheme {study.quantize.reference}; scores can be had of both",
        )
    args.scores = args.scores or layout.record("score_heads", cell.name)
    args.data = args.data or layout.data("test")
    with Job(stage="prune_heads", cell=cell.about, study=study, record=args.record) as job:
        run(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

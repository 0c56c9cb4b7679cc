"""Score every attention head of one cell: how far its output differs between reasoning prompts and others.

For each token and head the output before the output projection is reduced to one number; compared are the
distributions of these numbers over the tokens of both kinds of prompts, by their total-variation distance on shared
bins, against relabelled pairs of prompts of one length. Controls: prompts with the same words and length, and the
reasoning prompts split into halves. Works on quantized checkpoints that transformers loads.

Writes the record, and beside it `.heads.parquet` (a row per head), `.pairs.parquet` (each pair's difference) and
`.null.parquet` (the relabelled distances). Of a trained variant's unquantized checkpoint it also tells how far the
weights of each head moved from the base's. A killed job goes on with the prompts that are left.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_base, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.heads.modules import HeadLayer, all_heads, find_heads
from gainwatt.heads.partial import ReadPrompts
from gainwatt.heads.prompts import GENERAL, PromptSet, read_prompts
from gainwatt.heads.read import HeadReader
from gainwatt.heads.scores import (
    Encoded,
    contrasts,
    difference_rows,
    encode,
    head_rows,
    null_rows,
    summarize,
)
from gainwatt.heads.weights import CHANGES, changes, output_norms
from gainwatt.job import Job
from gainwatt.modeling import NO_GPU_MEMORY, load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.record import text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import BASE, Study
from gainwatt.study.heads import Heads


def settings_of(study: Study) -> Heads:
    """The study's section. Raises InputError where it has none."""
    if study.heads is None:
        raise InputError(
            f"the study {study.study!r} has no section heads", "add `heads: {}` to it, or give --set 'heads={}'"
        )
    return study.heads


def load(job: Job, study: Study, args: argparse.Namespace) -> tuple[Checkpoint, Any, dict[str, PromptSet]]:
    """Checkpoint, tokenizer and prompts; each becomes an input of the record."""
    scheme = get_scheme(args.scheme)
    if scheme.loader("transformers") is None:
        raise UnavailableError(f"heads are read with transformers, which does not load {scheme.name}")
    sets = read_prompts(settings_of(study), args.layout.data)
    for kind, found in sets.items():
        job.add_input(f"prompts_{kind}", found.sha256, source=found.source, prompts=len(found.texts))
    checkpoint = read_manifest(args.checkpoint)
    job.add_input(
        "checkpoint", checkpoint.sha256, variant=checkpoint.variant, scheme=checkpoint.scheme,
        parent_sha256=checkpoint.parent_sha256,
    )  # fmt: skip
    return checkpoint, load_tokenizer(checkpoint.folder, trust_remote_code=study.model.trust_remote_code), sets


def check_context(model: Any, encoded: Encoded) -> None:
    """Raise InputError when a prompt is longer than the model's context."""
    longest = max(map(len, encoded.sequences.values()))
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise InputError(f"a prompt has {longest} tokens, and the model holds {limit}", "lower heads.max_tokens")


def read(
    job: Job, reader: HeadReader, encoded: Encoded, waiting: dict[int, tuple[int, ...]], partial: ReadPrompts
) -> None:
    """One forward pass for every prompt that is left; shows progress with tokens per second."""
    job.metrics["resumed_prompts"] = len(encoded.sequences) - len(waiting)
    bar: Any = cli.progress([], what="heads", total=len(encoded.sequences), unit="prompt")
    bar.update(len(partial.done))
    with job.phase("read", short_ok=False):
        for found, seconds in reader.read(waiting):
            partial.add(found, seconds=seconds)
            tokens = sum(len(values) for values in found.values())
            bar.set_postfix_str(f"{tokens / seconds:.0f} tok/s", refresh=False)
            bar.update(len(found))
    bar.close()


def weight_changes(
    job: Job, args: argparse.Namespace, checkpoint: Checkpoint, layers: list[HeadLayer]
) -> list[dict[str, float | None]] | None:
    """How far each head's weights moved from the base's, or None with the reason in the record."""
    if args.variant == BASE:
        job.null("dw_norm_total", "the base is what changes are measured from")
        return None
    if not get_scheme(args.scheme).dense:
        job.null("dw_norm_total", "the change of the weights is measured on the unquantized checkpoint")
        return None
    base = read_base(args.base, checkpoint, args.checkpoint)
    job.add_input("base", base.sha256, variant=base.variant, scheme=base.scheme)
    with job.phase("weights"):
        found = changes(layers, checkpoint.folder, base.folder)
    known = [row["dw_norm"] for row in found if row["dw_norm"] is not None]
    if known:
        job.metrics["dw_norm_total"] = sum(value * value for value in known) ** 0.5
    else:
        job.null("dw_norm_total", "this architecture stores the queries in another way")
    return found


def score(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Load, read, compare, and fill the record."""
    settings = settings_of(study)
    with job.phase("load"):
        checkpoint, tokenizer, sets = load(job, study, args)
        scheme = get_scheme(args.scheme)
        dtype = args.scheme if scheme.dense else study.model.dtype
        model = load_model(checkpoint, scheme, dtype, trust_remote_code=study.model.trust_remote_code)
        layers = find_heads(model)
        encoded = encode(tokenizer, sets, settings)
        check_context(model, encoded)
    tokens_sha256 = text_sha256(str(sorted(encoded.sequences.items())))
    job.add_input("tokens", tokens_sha256)
    identity = f"{study.settings_sha256('score_heads')} {checkpoint.sha256} {tokens_sha256} {args.scheme}"
    partial = ReadPrompts(args.work / "prompts.jsonl", text_sha256(identity))
    job.keep_energy(args.work / "energy.json", text_sha256(identity))
    reader = HeadReader(model, layers, statistic=settings.statistic, batch_size=settings.batch_size)
    waiting = {index: ids for index, ids in encoded.sequences.items() if index not in partial.done}
    with job.phase("warm_up"):
        reader.warm_up(waiting)
    reset_peak_memory()
    read(job, reader, encoded, waiting, partial)
    memory = memory_mib()
    with job.phase("compare"):
        found = contrasts(partial.done, encoded, settings)
    rows = head_rows(layers, found, output_norms(layers))
    moved = weight_changes(job, args, checkpoint, layers)
    names = [(head.layer, head.head) for head in all_heads(layers)]
    by_head = dict(zip(names, moved, strict=True)) if moved else {}
    rows = [row | by_head.get((row["layer_idx"], row["head_idx"]), dict.fromkeys(CHANGES)) for row in rows]
    fill(job, partial, memory, summarize(rows, found, encoded, sets, settings) | {"attention_layers": len(layers)})
    job.settings["effective"] = {
        "dtype": scheme.compute_dtype or dtype, "batch_size": reader.batch_size,
        "attention": getattr(model.config, "_attn_implementation", None),
        "heads_by_layer": [[layer.layer, layer.heads, layer.kv_heads, layer.head_dim] for layer in layers],
        "exact_null": {name: result.exact for name, result in found.items()},
    }  # fmt: skip
    job.settings["events"] = reader.events
    tables = {"heads": rows, "pairs": difference_rows(all_heads(layers), found[GENERAL]), "null": null_rows(found)}
    for kind, table in tables.items():
        job.add_table(kind, table)
    job.on_written(partial.remove)


def fill(job: Job, partial: ReadPrompts, memory: dict[str, float | None], metrics: dict[str, Any]) -> None:
    """Metrics, speed and memory; a number that could not be had gets its reason."""
    job.metrics.update(metrics)
    for name in ("tv_depth_spearman", "tv_crossfit_spearman"):
        if metrics[name] is None:
            job.null(name, "one side does not vary")
    job.metrics["read_s"] = partial.seconds
    job.metrics["throughput_tok_s"] = metrics["prompt_tokens"] / partial.seconds
    job.metrics["prompts_per_s"] = metrics["prompts"] / partial.seconds
    job.measured(memory, NO_GPU_MEMORY)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    cli.add_cell_options(parser)
    parser.add_argument("--base", type=Path, metavar="FILE", help="manifest of the base (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    settings_of(study)
    cell = cli.cell_of(args, study, layout, "score_heads")
    args.base = args.base or layout.manifest(BASE)
    with Job(stage="score_heads", cell=cell.about, study=study, record=args.record) as job:
        score(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Measure the weights of one variant's unquantized checkpoint: distribution, outliers, 4-bit error, and what training
changed, in norm and in quantization codes.

Writes the record, and beside it `.layers.parquet` with one row per 2-D weight. Reads the safetensors in blocks and
builds no model. `--quantized` gives the quantized checkpoints that are evaluated, `--base-quantized` those of the
base: their own errors and codes go to `.stored.parquet`, one row per scheme and weight. With `--data` the models are
loaded and look at calibration text: outliers at the input of each linear layer (`.activations.parquet`), and how far
hidden states and logits of the quantized checkpoints, and of the base, are from this checkpoint's
(`.outputs.parquet`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_base, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.job import Job
from gainwatt.modeling import NO_GPU_MEMORY, device, load_model, load_tokenizer, memory_mib
from gainwatt.quantization.calibration import load_calibration
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.study import BASE, DENSE, Study
from gainwatt.weights.measure import Plan
from gainwatt.weights.memory import peak_rss_mib, reset_peak_rss
from gainwatt.weights.outputs import activation_rows, compare_outputs
from gainwatt.weights.quantizers import quantizer
from gainwatt.weights.run import diagnose, write_rows
from gainwatt.weights.stored_record import compare_stored, read_stored
from gainwatt.weights.summary import null_reasons, summarize
from gainwatt.weights.update import column_name
from gainwatt.weights.variants import diagnosed_variants


def read_checkpoints(job: Job, args: argparse.Namespace) -> tuple[Checkpoint, Checkpoint | None]:
    """The variant's checkpoint, and its base unless it is the base; both become inputs of the record."""
    checkpoint = read_manifest(args.checkpoint)
    if checkpoint.scheme != DENSE or checkpoint.variant != args.variant:
        raise InputError(
            f"{args.checkpoint} is the {checkpoint.scheme} checkpoint of {checkpoint.variant}, not the unquantized one "
            f"of {args.variant}",
            "give the manifest of the variant's unquantized checkpoint",
        )
    job.add_input("checkpoint", checkpoint.sha256, variant=checkpoint.variant, scheme=checkpoint.scheme)
    if args.variant == BASE:
        return checkpoint, None
    base = read_base(args.base, checkpoint, args.checkpoint)
    job.add_input("base", base.sha256, variant=base.variant, scheme=base.scheme)
    return checkpoint, base


def measure_weights(
    job: Job, study: Study, args: argparse.Namespace, checkpoint: Checkpoint, base: Checkpoint | None
) -> None:
    """Measure the weights, write their table, fill the metrics."""
    settings = study.diagnose
    plan = Plan(
        group_size=settings.group_size,
        outlier_multiplier=settings.outlier_multiplier,
        schemes=settings.schemes,
        device=device(),
        random_control=settings.random_control,
    )
    with job.phase("measure"):
        measured = diagnose(
            checkpoint.folder,
            base.folder if base else None,
            plan,
            label=args.variant,
            include_embeddings=settings.include_embeddings,
            progress=lambda found: cli.progress(found, what=f"weights of {args.variant}", unit="tensor"),
        )
    metrics = summarize(measured, plan)
    job.metrics.update(metrics)
    job.null_reasons.update(null_reasons(metrics, plan, trained=base is not None))
    job.settings["effective"] = {"device": plan.device, "block_elements": plan.elements()}
    layers = args.record.with_suffix(".layers.parquet")
    write_rows(layers, measured, plan)
    job.add_output("layers", layers)


def look_at_text(
    job: Job,
    study: Study,
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    others: list[tuple[str, Checkpoint, Scheme]],
) -> None:
    """Activations of the checkpoint, and output changes against it, on the first calibration items."""
    reference, options = get_scheme(study.quantize.reference), {"trust_remote_code": study.model.trust_remote_code}
    tokenizer = load_tokenizer(checkpoint.folder, **options)
    calibration = load_calibration(study, args.data, tokenizer)
    texts = calibration.token_ids[: study.diagnose.text_items]
    job.add_input("text", calibration.sha256, items=len(texts), tokens=sum(len(ids) for ids in texts))
    with job.phase("activations"):
        model = load_model(checkpoint, reference, study.model.dtype, **options)
        diagnosis = study.diagnose
        quantizers = [quantizer(name, group_size=diagnosis.group_size) for name in diagnosis.schemes]
        activations = activation_rows(model, texts, multiplier=diagnosis.outlier_multiplier, quantizers=quantizers)
    job.metrics["act_max_abs_max"] = max(row["act_max_abs"] for row in activations)
    for metric in text_metrics(study)[1:]:
        column = metric.removesuffix("_mean")
        job.metrics[metric] = sum(row[column] for row in activations) / len(activations)
    job.add_table("activations", activations)
    rows: list[dict[str, Any]] = []
    for name, other, scheme in others:
        if "transformers" not in scheme.engines:
            null_outputs(job, name, f"transformers does not load {name} checkpoints")
            continue
        with job.phase(f"outputs {name}"):
            try:
                change = compare_outputs(model, load_model(other, scheme, study.model.dtype, **options), texts)
            except UnavailableError as error:
                null_outputs(job, name, error.what)
                continue
        key = column_name(name)
        job.metrics[f"logit_kl_nats_{key}"] = change.kl_nats
        job.metrics[f"top1_agreement_{key}"] = change.top1_agreement
        job.metrics[f"final_state_relative_error_{key}"] = change.block_errors[-1]
        rows += change.rows(name)
    if rows:
        job.add_table("outputs", rows)


def text_metrics(study: Study) -> list[str]:
    """Metrics that need text: the largest activation, and means over linear layers."""
    errors = [f"output_relative_error_{column_name(name)}_mean" for name in study.diagnose.schemes]
    return ["act_max_abs_max", "act_channel_outlier_frac_mean", "act_channels_ge_6_frac_mean", *errors]


def null_outputs(job: Job, name: str, reason: str) -> None:
    """Say why a model's outputs were not compared."""
    for metric in ("logit_kl_nats", "top1_agreement", "final_state_relative_error"):
        job.null(f"{metric}_{column_name(name)}", reason)


def run(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Weights, what is stored of them quantized, text where it is given, then memory."""
    reset_peak_rss()
    with job.phase("check"):
        checkpoint, base = read_checkpoints(job, args)
        stored = read_stored(job, checkpoint, base, given=args.quantized, base_given=args.base_quantized)
    measure_weights(job, study, args, checkpoint, base)
    job.metrics["weights_peak_rss_mib"] = peak_rss_mib()
    with job.phase("stored"):
        rows = compare_stored(job, study, checkpoint, base, stored)
        if rows:
            job.add_table("stored", rows)
    if args.data is not None:
        reference = get_scheme(study.quantize.reference)
        others = [] if base is None else [(BASE, base, reference)]
        look_at_text(job, study, args, checkpoint, [*others, *((s.name, made, s) for s, made in stored.quantized)])
        for name, reason in stored.reasons.items():
            null_outputs(job, name, reason)
    else:
        for metric in text_metrics(study):
            job.null(metric, "no text was given (diagnose.outputs, --data)")
    job.metrics["peak_rss_mib"] = peak_rss_mib()
    job.measured({"peak_allocated_mib": memory_mib()["peak_allocated_mib"]}, NO_GPU_MEMORY)


def quantized_option(text: str) -> tuple[str, Path]:
    """`SCHEME=MANIFEST` of the command line. Raises InputError for anything else."""
    name, separator, path = text.partition("=")
    if not separator or not path or get_scheme(name).dense:
        raise InputError(f"cannot read {text!r} as a quantized checkpoint", "write SCHEME=MANIFEST, a quantized scheme")
    return name, Path(path)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="base, grpo-s<seed>, or the control sft-s<seed>")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="manifest to measure (default: from the study)")
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="manifest of the base to compare with (default: from the study)"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="train.jsonl: also look at calibration text")
    parser.add_argument(
        "--quantized", action="append", default=[], metavar="SCHEME=MANIFEST",
        help="quantized checkpoint of the variant; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--base-quantized", action="append", default=[], metavar="SCHEME=MANIFEST",
        help="quantized checkpoint of the base, whose codes are compared with; may be given several times",
    )  # fmt: skip
    args = parser.parse_args(argv)
    args.quantized = [quantized_option(text) for text in args.quantized]
    args.base_quantized = [quantized_option(text) for text in args.base_quantized]
    study, layout = cli.study_of(args)
    there = diagnosed_variants(study)
    if args.variant not in there:
        raise InputError(f"the study {study.study!r} has no variant {args.variant!r}", f"it has: {', '.join(there)}")
    args.checkpoint = args.checkpoint or layout.manifest(args.variant)
    args.base = args.base or layout.manifest(BASE)
    args.record = args.record or layout.record("diagnose_weights", args.variant)
    with Job(stage="diagnose_weights", cell={"variant": args.variant}, study=study, record=args.record) as job:
        run(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Measure the weights of one variant's unquantized checkpoint: distribution, outliers, 4-bit error, and what training
changed, in norm and in quantization codes.

Writes the record, and beside it `.layers.parquet` with one row per 2-D weight. Reads the safetensors in blocks and
builds no model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.modeling import device, memory_mib
from gainwatt.study import BASE, DENSE, Study, variants
from gainwatt.weights.measure import Plan
from gainwatt.weights.run import diagnose, write_rows
from gainwatt.weights.summary import null_reasons, summarize


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
    base = read_manifest(args.base)
    job.add_input("base", base.sha256, variant=base.variant, scheme=base.scheme)
    if checkpoint.parent_sha256 not in (None, base.sha256):
        raise InputError(
            f"{args.checkpoint} was trained from another checkpoint than {args.base} describes",
            "give the manifest of the base that it was trained from",
        )
    return checkpoint, base


def run(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Measure, and fill the record."""
    settings = study.diagnose
    plan = Plan(
        group_size=settings.group_size,
        outlier_multiplier=settings.outlier_multiplier,
        schemes=settings.schemes,
        device=device(),
        random_control=settings.random_control,
    )
    with job.phase("check"):
        checkpoint, base = read_checkpoints(job, args)
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
    memory = memory_mib()
    job.metrics["peak_rss_mib"] = memory["peak_rss_mib"]
    if memory["peak_allocated_mib"] is None:
        job.null("peak_allocated_mib", "no GPU: torch counts allocated memory on GPUs only; see peak_rss_mib")
    else:
        job.metrics["peak_allocated_mib"] = memory["peak_allocated_mib"]
    layers = args.record.with_suffix(".layers.parquet")
    write_rows(layers, measured, plan)
    job.add_output("layers", layers)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="base or grpo-s<seed>")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="manifest to measure (default: from the study)")
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="manifest of the base to compare with (default: from the study)"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    if args.variant not in variants(study):
        raise InputError(
            f"the study {study.study!r} has no variant {args.variant!r}", f"it has: {', '.join(variants(study))}"
        )
    args.checkpoint = args.checkpoint or layout.manifest(args.variant)
    args.base = args.base or layout.manifest(BASE)
    args.record = args.record or layout.record("diagnose_weights", args.variant)
    with Job(stage="diagnose_weights", cell={"variant": args.variant}, study=study, record=args.record) as job:
        run(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

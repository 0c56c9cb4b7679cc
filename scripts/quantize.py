"""Make a quantized checkpoint of one variant, measure its weight error, and prove that each engine loads it.

Calibrated schemes see a seeded sample of training items: chat prompt and reference solution. What cannot work (an
already quantized checkpoint, a weight that is no number, a layer width that the groups do not divide, too few
calibration items, a device or an environment that the scheme does not run on) is an error before any work starts.
Writes the record, and beside it `.layers.parquet` with the error of every quantized matrix.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest, write_manifest, write_missing
from gainwatt.errors import InputError, UnavailableError
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat
from gainwatt.job import Job
from gainwatt.modeling import NO_GPU_MEMORY, compute_device, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.quantization.calibration import Calibration, load_calibration
from gainwatt.quantization.checks import check_device, check_environment, check_finite, check_quantizable
from gainwatt.quantization.errors import layer_errors
from gainwatt.quantization.made import Made
from gainwatt.quantization.make import make
from gainwatt.quantization.smoke import Result, smoke
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.study import Study, check_cell

_PROMPT_TOKENS = 256
_SAMPLE_TEXTS = 32


@dataclass(frozen=True)
class Prepared:
    """The unquantized checkpoint, the calibration of a scheme that needs one, sample texts, and prompt ids."""

    base: Checkpoint
    calibration: Calibration | None
    texts: list[str]
    prompt: list[int]


def prepare(job: Job, study: Study, args: argparse.Namespace, scheme: Scheme) -> Prepared:
    """Read what is needed. Raises InputError or UnavailableError for what makes the work impossible."""
    base = read_manifest(args.checkpoint)
    check_quantizable(base, scheme)
    check_device(base, scheme, *compute_device())
    check_finite(base)
    tokenizer = load_tokenizer(base.folder, trust_remote_code=study.model.trust_remote_code)
    job.add_input("checkpoint", base.sha256, variant=base.variant)
    calibration = None
    if scheme.calibrated:
        calibration = load_calibration(study, args.data, tokenizer)
        used = len(calibration.token_ids)
        job.add_input("calibration", calibration.sha256, items=used, tokens=calibration.tokens)
    template = study.data.prompt_template
    samples = read_items(args.data)[:_SAMPLE_TEXTS]
    texts = [solved_chat(tokenizer, item.question, item.solution, template) for item in samples]
    question = chat_prompt(tokenizer, samples[0].question, template)
    prompt = tokenizer(question, add_special_tokens=False)["input_ids"][-_PROMPT_TOKENS:]
    return Prepared(base, calibration, texts, prompt)


def quantize(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Check, quantize, save, measure, smoke-test, and fill the record."""
    scheme = get_scheme(args.scheme)
    with job.phase("check"):
        ready = prepare(job, study, args, scheme)
    base = ready.base
    reset_peak_memory()
    with job.phase("quantize"):
        made_by = make(study, base, scheme, args.manifest.parent, ready.calibration, ready.texts)
    peak = memory_mib()
    with job.phase("hash"):
        made = write_manifest(args.manifest, variant=args.variant, scheme=scheme.name, parent_sha256=base.sha256)
    with job.phase("errors"):
        measure_errors(job, args, base, made, scheme)
    with job.phase("smoke"):
        results = smoke(study, made, scheme, ready.prompt)
    describe(job, scheme, base, made, made_by, peak, results)


def measure_errors(job: Job, args: argparse.Namespace, base: Checkpoint, made: Checkpoint, scheme: Scheme) -> None:
    """Weight error of each quantized matrix into a table beside the record, pooled into the metrics."""
    path = args.record.with_suffix(".layers.parquet")
    try:
        rows, pooled = layer_errors(base.folder, made.folder, scheme)
    except UnavailableError as error:
        path.unlink(missing_ok=True)
        job.null("relative_mse", error.what)
        return
    worst = max(rows, key=lambda row: row["relative_mse"] or 0.0)
    job.metrics["quantized_matrices"] = len(rows)
    job.measured({"relative_mse": pooled, "relative_mse_max": worst["relative_mse"]}, "undefined: all weights are zero")
    job.settings["worst_matrix"] = worst["module_name"]
    job.add_table("layers", rows)


def describe(
    job: Job,
    scheme: Scheme,
    base: Checkpoint,
    made: Checkpoint,
    made_by: Made,
    peak: dict[str, float | None],
    results: Sequence[Result],
) -> None:
    """Metrics and settings of a finished checkpoint."""
    first: dict[str, Any] = next(result for result in results if result["status"] == "ok")
    job.settings["scheme"] = {"tool": scheme.kind, **scheme.options}
    job.settings["tool"] = made_by.about
    job.settings["layer_errors"] = made_by.search_errors
    job.settings["smoke"] = list(results)
    job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
    job.metrics.update(
        weights_before_bytes=base.weight_bytes,
        weights_after_bytes=made.weight_bytes,
        compression_ratio=base.weight_bytes / made.weight_bytes,
        loaded_bytes=first["loaded_bytes"],
        used_bytes=first["used_bytes"],
        peak_rss_mib=peak["peak_rss_mib"],
        smoke_tokens=first["tokens"],
    )
    memory = {
        "peak_allocated_mib": peak["peak_allocated_mib"],
        "allocated_after_load_mib": first["allocated_mib"],
    }
    job.measured(memory, NO_GPU_MEMORY)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="base or grpo-s<seed>")
    parser.add_argument("--scheme", required=True, help="a quantized scheme of the study, e.g. awq-w4g128")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="unquantized manifest (default: from the study)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="train.jsonl for calibration (default: from the study)"
    )
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    cell = check_cell(study, args.variant, args.scheme)
    scheme = get_scheme(cell.scheme)
    if scheme.dense:
        raise InputError(f"{cell.scheme} is not quantized: there is nothing to make", "evaluate it directly")
    check_environment(scheme)
    args.checkpoint = args.checkpoint or layout.manifest(cell.variant)
    args.data = args.data or layout.data("train")
    args.manifest = args.manifest or layout.manifest(cell.variant, cell.scheme)
    args.record = args.record or layout.record("quantize", cell.name)
    with Job(stage="quantize", cell=cell.about, study=study, record=args.record) as job:
        quantize(job, study, args)
    if job.status != "ok":
        write_missing(
            args.manifest, variant=cell.variant, scheme=cell.scheme, status=job.status, reason=job.reason or ""
        )
    return 0


if __name__ == "__main__":
    cli.run(main)

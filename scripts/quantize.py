"""Make a quantized checkpoint of one variant, then load it and generate a few tokens to prove that it works.

Calibrated schemes see a seeded sample of training items: chat prompt and reference solution. What cannot work (an
already quantized checkpoint, a layer width that the groups do not divide, too few calibration items) is an error
before any work starts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import atomic_folder
from gainwatt.checkpoint import Checkpoint, read_manifest, write_manifest, write_missing
from gainwatt.engines.base import Request
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.modeling import load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.quantization.calibration import Calibration, load_calibration
from gainwatt.quantization.checks import check_quantizable
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.study import Study, check_cell


def make(
    study: Study, base: Checkpoint, scheme: Scheme, folder: Path, tokenizer: Any, calibration: Calibration | None
) -> dict[str, dict[str, float]]:
    """Quantize `base` into `folder`; returns per-layer errors where the tool tells them."""
    common: dict[str, Any] = {"dtype": study.model.dtype, "trust_remote_code": study.model.trust_remote_code}
    errors: dict[str, dict[str, float]] = {}
    with atomic_folder(folder) as temporary:
        if scheme.kind == "bitsandbytes":
            from gainwatt.quantization import bitsandbytes

            bitsandbytes.quantize(base, scheme, temporary, **common)
        else:
            from gainwatt.quantization import llmcompressor

            if calibration is None:
                raise InputError(f"{scheme.name} needs calibration text", "give --data")
            errors = llmcompressor.quantize(
                base,
                scheme,
                temporary,
                calibration=calibration,
                grid_points=study.quantize.awq_grid_points,
                **common,
            )
        tokenizer.save_pretrained(temporary)
    return errors


def smoke(study: Study, made: Checkpoint, scheme: Scheme, prompt_ids: list[int]) -> dict[str, Any]:
    """Load the new checkpoint and generate. Raises InputError when it generates nothing or a single token only."""
    tokenizer = load_tokenizer(made.folder)
    reset_peak_memory()
    model = load_model(made, scheme, study.model.dtype, trust_remote_code=study.model.trust_remote_code)
    engine = TransformersEngine(
        model, tokenizer, batch_size=1, max_new_tokens=study.quantize.smoke_tokens, repetition_penalty=1.0
    )
    (completion,) = next(iter(engine.generate([Request(0, tuple(prompt_ids))])))
    loaded_mib = memory_mib()["allocated_mib"]
    if completion.tokens == 0:
        raise InputError(f"the {scheme.name} checkpoint in {made.folder} generates nothing", "look at the log above")
    return {
        "smoke_text": completion.text,
        "smoke_tokens": completion.tokens,
        "allocated_after_load_mib": loaded_mib,
    }


def quantize(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Check, quantize, save, smoke-test, and fill the record."""
    scheme = get_scheme(args.scheme)
    with job.phase("check"):
        base = read_manifest(args.checkpoint)
        check_quantizable(base, scheme)
        tokenizer = load_tokenizer(base.folder, trust_remote_code=study.model.trust_remote_code)
        calibration = load_calibration(study, args.data, tokenizer)
    job.add_input("checkpoint", base.sha256, variant=base.variant)
    if scheme.calibrated:
        job.add_input("calibration", calibration.sha256, items=len(calibration.token_ids), tokens=calibration.tokens)
    reset_peak_memory()
    with job.phase("quantize"):
        errors = make(study, base, scheme, args.manifest.parent, tokenizer, calibration if scheme.calibrated else None)
    peak = memory_mib()
    with job.phase("hash"):
        made = write_manifest(args.manifest, variant=args.variant, scheme=scheme.name, parent_sha256=base.sha256)
    with job.phase("smoke"):
        smoked = smoke(study, made, scheme, calibration.token_ids[0][:64])
    job.settings["scheme"] = scheme.options
    job.settings["layer_errors"] = errors
    job.settings["smoke_text"] = smoked.pop("smoke_text")
    job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
    job.metrics.update(
        weights_before_bytes=base.weight_bytes,
        weights_after_bytes=made.weight_bytes,
        compression_ratio=base.weight_bytes / made.weight_bytes,
        peak_rss_mib=peak["peak_rss_mib"],
        smoke_tokens=smoked["smoke_tokens"],
    )
    for name, value in (
        ("peak_allocated_mib", peak["peak_allocated_mib"]),
        ("allocated_after_load_mib", smoked["allocated_after_load_mib"]),
    ):
        if value is None:
            job.null(name, "no GPU: torch counts allocated memory on GPUs only; see peak_rss_mib")
        else:
            job.metrics[name] = value


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
    if get_scheme(cell.scheme).dense:
        raise InputError(f"{cell.scheme} is not quantized: there is nothing to make", "evaluate it directly")
    args.checkpoint = args.checkpoint or layout.manifest(cell.variant)
    args.data = args.data or layout.data("train")
    args.manifest = args.manifest or layout.manifest(cell.variant, cell.scheme)
    args.record = args.record or layout.record("quantize", cell.name)
    about = {"variant": cell.variant, "scheme": cell.scheme}
    with Job(stage="quantize", cell=about, study=study, record=args.record) as job:
        quantize(job, study, args)
    if job.status != "ok":
        write_missing(
            args.manifest, variant=cell.variant, scheme=cell.scheme, status=job.status, reason=job.reason or ""
        )
    return 0


if __name__ == "__main__":
    cli.run(main)

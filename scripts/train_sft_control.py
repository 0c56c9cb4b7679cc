"""Make the supervised control of the weight diagnosis: a fine-tune of the base on the training items' reference
solutions, its change rescaled to the norm of the change that GRPO made.

Equal is the L2 norm over all measured matrices in the stored type, within 1 %; `norm_ratio` in the record says how
exactly. The checkpoint is diagnosed beside the trained variants and not evaluated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest, write_manifest, write_missing
from gainwatt.errors import InputError, UnavailableError
from gainwatt.gsm8k.data import read_items
from gainwatt.job import Job
from gainwatt.modeling import device, load_tokenizer, memory_mib, torch_dtype
from gainwatt.record import file_sha256
from gainwatt.study import BASE, DENSE, Study
from gainwatt.training.final import save_final
from gainwatt.training.settings import prompts_per_step
from gainwatt.weights import sft
from gainwatt.weights.variants import matched_variant


def read_checkpoints(job: Job, args: argparse.Namespace, matched: str) -> tuple[Checkpoint, Checkpoint]:
    """The base, and the trained variant whose step size is repeated. Raises InputError where they do not belong."""
    base, trained = read_manifest(args.base), read_manifest(args.trained)
    if trained.scheme != DENSE or trained.variant != matched or trained.parent_sha256 not in (None, base.sha256):
        raise InputError(
            f"{args.trained} is not the unquantized checkpoint of {matched} that was trained from {args.base}",
            "give the manifest of the trained variant and of its own base",
        )
    job.add_input("base", base.sha256)
    job.add_input("trained", trained.sha256, variant=matched)
    job.add_input("data", file_sha256(args.data))
    return base, trained


def train(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Fine-tune, rescale, save, and fill the record."""
    import torch
    from transformers import AutoModelForCausalLM

    matched, settings, dtype = matched_variant(study), study.train, torch_dtype(study.model.dtype)
    with job.phase("load"):
        base, trained = read_checkpoints(job, args, matched)
        wanted = sft.update_norm(trained.folder, base.folder)
        if wanted == 0:
            raise UnavailableError(
                f"{matched} does not differ from its base: there is no step size to repeat",
                "train longer, or with a larger rate",
            )
        tokenizer = load_tokenizer(base.folder, trust_remote_code=study.model.trust_remote_code)
        items = read_items(args.data, limit=settings.prompts)
        limit = settings.max_prompt_tokens + settings.max_completion_tokens
        examples = sft.encode(items, tokenizer, study.data.prompt_template, limit)
        torch.manual_seed(settings.seeds[0])
        model = AutoModelForCausalLM.from_pretrained(
            base.folder, dtype=torch.float32, device_map=device(), local_files_only=True,
            trust_remote_code=study.model.trust_remote_code,
        )  # fmt: skip
        if settings.gradient_checkpointing and device() == "cuda":
            model.gradient_checkpointing_enable()
    batch_size = max(1, round(prompts_per_step(settings)))
    with job.phase("train"):
        losses = sft.fine_tune(
            model, examples, settings, batch_size=batch_size, seed=settings.seeds[0],
            progress=lambda steps: cli.progress(steps, what=f"supervised control {args.variant}", unit="step"),
        )  # fmt: skip
    with job.phase("rescale"):
        rescaled = sft.rescale(model, base.folder, wanted, dtype)
    with job.phase("save"):
        save_final(model, tokenizer, base, args.manifest.parent, dtype=study.model.dtype)
        about = {"matched": matched, "matched_sha256": trained.sha256, "norm_ratio": rescaled.norm_ratio}
        made = write_manifest(
            args.manifest, variant=args.variant, scheme=DENSE, parent_sha256=base.sha256, about=about
        )  # fmt: skip
    job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
    job.settings["effective"] = {"batch_size": batch_size, "matched": matched, "tolerance": sft.TOLERANCE}
    job.metrics.update(
        steps=len(losses), loss_first=losses[0], loss_last=losses[-1], update_norm=wanted * rescaled.norm_ratio,
        matched_update_norm=wanted, norm_ratio=rescaled.norm_ratio, update_factor=rescaled.factor,
        **{name: value for name, value in memory_mib().items() if value is not None},
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--base", type=Path, metavar="FILE", help="manifest of the base (default: from the study)")
    parser.add_argument(
        "--trained", type=Path, metavar="FILE", help="manifest of the variant to match (default: the first seed's)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="train.jsonl (default: from the study)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    args.variant = f"sft-s{study.train.seeds[0]}"
    args.base = args.base or layout.manifest(BASE)
    args.trained = args.trained or layout.manifest(matched_variant(study))
    args.data = args.data or layout.data("train")
    args.manifest = args.manifest or layout.manifest(args.variant)
    args.record = args.record or layout.record("train_sft_control", args.variant)
    with Job(stage="train_sft_control", cell={"variant": args.variant}, study=study, record=args.record) as job:
        train(job, study, args)
    if job.status != "ok":
        write_missing(
            args.manifest, variant=args.variant, scheme=DENSE, status=job.status, reason=job.reason or ""
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    cli.run(main)

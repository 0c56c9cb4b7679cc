"""Make the small base model of the embedded study: tokenizer, Qwen2-architecture model, supervised warm start.

The model is trained from scratch on solved problems. A killed run goes on from its last checkpoint with the same
command and ends with the same weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import write_manifest
from gainwatt.embedded import warm_start
from gainwatt.embedded.warm_start import Settings, strip_annotations
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import user_turn
from gainwatt.job import Job
from gainwatt.modeling import device, torch_dtype
from gainwatt.record import file_sha256
from gainwatt.study import BASE, DENSE, Study


def settings_of(study: Study) -> Settings:
    """The warm start's settings from the study."""
    given = study.embedded.warm_start
    return Settings(
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        warmup_steps=given.warmup_steps,
        beta1=given.adam_beta1,
        beta2=given.adam_beta2,
        weight_decay=given.weight_decay,
        max_grad_norm=given.max_grad_norm,
        seed=given.seed,
        checkpoint_steps=given.save_steps,
        prompt_template=study.data.prompt_template,
        bf16=given.precision == "bf16",
    )


def build(study: Study, rows: list[dict[str, str]]) -> tuple[Any, Any]:
    """Tokenizer, learned from prompts and solutions as the model will see them, and untrained model."""
    from gainwatt.embedded import model as tiny_model
    from gainwatt.embedded import tokenizer as tiny_tokenizer

    shape = study.embedded.model
    template = study.data.prompt_template
    texts = [f"{user_turn(row['question'], template)}\n{strip_annotations(row['answer'])}" for row in rows]
    tokenizer = tiny_tokenizer.train_tokenizer(texts, shape.vocab_size)
    model = tiny_model.build_model(
        tokenizer,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        max_tokens=shape.max_tokens,
        seed=study.embedded.warm_start.seed,
    )
    return tokenizer, model.to(device())


def train(job: Job, study: Study, data: Path, manifest: Path, work: Path) -> None:
    """Build, train (or go on), save, and fill the record."""
    with job.phase("load"):
        items = read_items(data, allow_duplicates=True)
        rows = [{"question": item.question, "answer": item.solution} for item in items]
        job.add_input("data", file_sha256(data))
        tokenizer, model = build(study, rows)
    history: list[dict[str, float]] = []
    with job.phase("train"):
        warm_start.run(model, tokenizer, rows, settings_of(study), work, history.append)
    with job.phase("save"):
        warm_start.save(model.to(torch_dtype(study.model.dtype)), tokenizer, manifest.parent)
        made = write_manifest(manifest, variant=BASE, scheme=DENSE, about={"source": "embedded"})
    job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
    job.metrics.update(
        steps=study.embedded.warm_start.steps,
        steps_this_run=len(history),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weight_bytes=made.weight_bytes,
    )
    if history:
        job.metrics["loss_last"] = sum(row["loss"] for row in history[-50:]) / len(history[-50:])
        job.metrics["train_s"] = sum(row["seconds"] for row in history)
        job.metrics["tokens"] = sum(row["tokens"] for row in history)
    # The checkpoints for resuming are larger than the model, and nothing reads them any more.
    job.on_written(lambda: shutil.rmtree(work, ignore_errors=True))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="solved problems, sft.jsonl (default: from the study)"
    )
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    if study.model.source != "embedded":
        raise InputError(
            f"the study's model is {study.model.source}: there is nothing to warm-start",
            "run scripts/fetch_model.py",
        )
    data = args.data or layout.data("sft")
    manifest = args.manifest or layout.manifest(BASE)
    record = args.record or layout.record("warm_start", BASE)
    with Job(stage="warm_start", cell={"variant": BASE}, study=study, record=record) as job:
        train(job, study, data, manifest, layout.work("warm_start", BASE))
    return 0


if __name__ == "__main__":
    cli.run(main)

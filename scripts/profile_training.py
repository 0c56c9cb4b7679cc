"""Profile GRPO steps: time, memory, power and joules of rollout, scoring, update and optimizer, and idle slots.

The steps are those of the study's section `train` with adapters on a frozen base; `--scheme` says in which type the
base is held (bnb-nf4 is QLoRA). The record holds the numbers, and steps.parquet beside it one row a step. A step that
runs out of memory is counted, and the run goes on with the next. A killed run goes on from its last checkpoint with the
same command.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.disk import naming
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item, read_items
from gainwatt.gsm8k.score import reward as score_reward
from gainwatt.job import Job
from gainwatt.modeling import load_tokenizer, loaded_bytes, memory_mib, reset_peak_memory
from gainwatt.profiling.training_rows import JoulesFile, joules_of, with_joules
from gainwatt.profiling.training_summary import summarise
from gainwatt.record import file_sha256, text_sha256
from gainwatt.study import BASE, Study
from gainwatt.study.sections import Lora, Train
from gainwatt.study.train_profile import STAGE, TrainProfile, long_tail_threshold, profiled_bases
from gainwatt.training.resume import last_complete, step_of
from gainwatt.training.settings import lora_config, prompts_per_step
from gainwatt.training.start import check_processes, load_policy, make_config, prompt_rows
from gainwatt.training.steplog import StepLog

SETTLE_S = 1.5
"""A driver's own record of power comes about a second late."""


def section_of(study: Study, scheme: str) -> TrainProfile:
    """The study's section. Raises InputError where it has none, or does not name the type of base."""
    if study.train_profile is None:
        raise InputError(
            f"the study {study.study!r} has no section train_profile", "add one, e.g. --set 'train_profile={steps: 20}'"
        )
    if f"{BASE}.{scheme}" not in profiled_bases(study):
        raise InputError(
            f"train_profile.bases of the study {study.study!r} does not name {scheme!r}",
            f"it names: {', '.join(study.train_profile.bases)}",
        )
    return study.train_profile


def profiled_train(study: Study, section: TrainProfile) -> Train:
    """The study's training as it is profiled: as many steps as asked for, adapters in any case."""
    changed = {"max_steps": section.steps + section.warmup_steps, "save_steps": section.save_steps}
    return study.train.model_copy(update={**changed, "lora": study.train.lora or Lora()})


def check_prompts(train: Train, items: list[Item]) -> None:
    """Raise InputError where one step needs more prompts than there are: TRL would make no step, and say nothing."""
    needed = prompts_per_step(train)
    if len(items) < needed:
        raise InputError(
            f"one step takes {needed:g} prompts ({train.per_device_train_batch_size} x "
            f"{train.gradient_accumulation_steps} completions in groups of {train.num_generations}), and there are "
            f"{len(items)}",
            "raise train_profile.prompts, or lower train.per_device_train_batch_size",
        )


def make_trainer(
    job: Job, study: Study, train: Train, base: Checkpoint, items: list[Item], config: Any, callback: Any, scheme: str
) -> Any:
    """The watched trainer with reward, callbacks and data in place."""
    import datasets

    from gainwatt.profiling.training_parts import StepWatch
    from gainwatt.profiling.training_trainer import ProfiledGRPOTrainer
    from gainwatt.training.trainer import CompleteCallback

    tokenizer = load_tokenizer(base.folder, trust_remote_code=study.model.trust_remote_code)

    def reward(completions: list[Any], gold: list[str], index: list[int], **_: Any) -> list[float]:
        callback.ledger.saw(index)
        return [score_reward(turns[0]["content"], answer) for turns, answer in zip(completions, gold, strict=True)]

    reset_peak_memory()
    trainer = ProfiledGRPOTrainer(
        model=load_policy(study, base, weights=scheme),
        reward_funcs=reward,
        args=config,
        train_dataset=datasets.Dataset.from_list(prompt_rows(study, items, tokenizer)),
        processing_class=tokenizer,
        peft_config=lora_config(train),
        # A checkpoint counts as whole once the joules up to it are on the disk, too.
        callbacks=[callback, CompleteCallback()],
        watch=StepWatch(job.phase),
    )
    callback.trainer = trainer
    job.settings["effective"] = {
        key: value
        for key, value in config.to_dict().items()
        if value is None or isinstance(value, bool | int | float | str)
    }
    return trainer


def describe_model(job: Job, trainer: Any, base: Checkpoint) -> None:
    """Bytes on the disk, in the loaded parameters, and allocated after loading; trainable parameters."""
    after = memory_mib()
    model = trainer.model
    job.metrics.update(
        weights_on_disk_bytes=base.weight_bytes,
        parameter_bytes=loaded_bytes(model),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
    for name, value in (
        ("allocated_after_load_mib", after["allocated_mib"]),
        ("peak_allocated_load_mib", after["peak_allocated_mib"]),
    ):
        job.metrics[name] = value
        if value is None:
            job.null_reasons[name] = "no GPU"


def profile(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Load, step (or go on), and fill the record."""
    section = section_of(study, args.scheme)
    train = profiled_train(study, section)
    with job.phase("load"):
        check_processes()
        base = read_manifest(args.base)
        items = read_items(args.data, limit=section.prompts or study.train.prompts)
        check_prompts(train, items)
        job.add_input("base", base.sha256)
        job.add_input("data", file_sha256(args.data))
        identity = f"{study.settings_sha256(STAGE)} {args.scheme} {base.sha256} {file_sha256(args.data)}"
        same_run = text_sha256(identity)
        config = make_config(train, section.seed, args.work)
        checkpoint = last_complete(args.work, same_run, before=train.max_steps)
        job.keep_energy(args.work / "energy.json", same_run)
        resumed_from = step_of(checkpoint)
        log = StepLog(args.work, resume_step=resumed_from)
        kept = JoulesFile(args.work / "joules.json", resume_step=resumed_from)

        from gainwatt.profiling.training_trainer import ProfileCallback
        from gainwatt.training.trainer import PromptLedger

        def joules() -> dict[int, Any]:
            return joules_of(job.phases(), callback.occurrences)

        callback = ProfileCallback(
            log, PromptLedger(), warmup_steps=section.warmup_steps, on_save=lambda: kept.keep(joules()),
            resumed_from=resumed_from,
        )  # fmt: skip
        trainer = make_trainer(job, study, train, base, items, config, callback, args.scheme)
        describe_model(job, trainer, base)
    with job.phase("train"), naming(args.work):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if job.energy()["devices"]:
        with job.phase("settle"):
            time.sleep(SETTLE_S)
    rows = with_joules(log.rows, {**kept.earlier, **joules()})
    finish(job, study, args, log, rows, resumed_from)


def finish(
    job: Job, study: Study, args: argparse.Namespace, log: StepLog, rows: list[dict[str, Any]], resumed_from: int
) -> None:
    """Metrics and the table of steps; `oom` where no measured step went well."""
    energy = job.energy()
    no_meter = None if energy["devices"] else energy["null_reasons"].get("gross_j")
    found = summarise(rows, threshold_tokens=long_tail_threshold(study), no_meter=no_meter)
    job.metrics.update(found.metrics, resumed_from_step=resumed_from)
    job.null_reasons.update(found.null_reasons)
    peaks = [device["max_w"] for device in energy["devices"]]
    job.metrics["peak_w"] = sum(peaks) if peaks and None not in peaks else None
    if job.metrics["peak_w"] is None:
        job.null_reasons["peak_w"] = "no device reports power"
    if no_meter is not None:
        rows = [{**row, "null_reason": no_meter} for row in rows]
    log.rows = rows
    steps = args.record.with_suffix(".steps.parquet")
    log.write_parquet(steps)
    job.add_output("steps", steps)
    job.on_written(lambda: shutil.rmtree(args.work, ignore_errors=True))
    if not found.metrics["steps_ok"]:
        job.status, job.reason = "oom", f"no measured step went well; {found.metrics['oom_first']}"


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--scheme", required=True, help="type of the frozen base, one of the study's train_profile.bases"
    )
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="manifest of the base model (default: from the study)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="train.jsonl (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for resumable checkpoints (default: from the study)"
    )
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    name = f"{BASE}.{args.scheme}"
    section_of(study, args.scheme)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a profile runs in one process", "start the script with python, not with accelerate launch")
    args.base = args.base or layout.manifest(BASE)
    args.data = args.data or layout.data("train")
    args.record = args.record or layout.record(STAGE, name)
    args.work = args.work or layout.work(STAGE, name)
    with Job(stage=STAGE, cell={"variant": BASE, "scheme": args.scheme}, study=study, record=args.record) as job:
        profile(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)

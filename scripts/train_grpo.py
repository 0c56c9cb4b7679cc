"""Train one variant with GRPO and save the weights that everything after it measures.

The reward is 1 for the right answer, 0 for a wrong one, less 0.25 when the completion starts another problem after its
answer. A killed run goes on from its last checkpoint with the same command, keeps the data order, and loses at most
train.save_steps steps. Where the study's resources.train.gpus is more than 1 the script starts one process for each
GPU, and the rollout server that the section `parallel` may ask for.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest, write_manifest, write_missing
from gainwatt.disk import naming
from gainwatt.engines.processes import end_with_parent
from gainwatt.errors import UnavailableError
from gainwatt.gsm8k.data import Item, read_items
from gainwatt.gsm8k.score import reward as score_reward
from gainwatt.job import Job
from gainwatt.modeling import load_tokenizer, memory_mib
from gainwatt.record import file_sha256, text_sha256
from gainwatt.study import BASE, DENSE, Study, training_seed
from gainwatt.training import launch
from gainwatt.training.final import save_final, update_size
from gainwatt.training.resume import last_complete, step_of
from gainwatt.training.settings import lora_config, prompts_per_step
from gainwatt.training.sharding import sum_gradients_in_fp32, whole_model
from gainwatt.training.start import NF4, check_processes, load_policy, make_config, prompt_rows
from gainwatt.training.steplog import StepLog, warm_speed


def make_trainer(job: Job, study: Study, base: Checkpoint, items: list[Item], config: Any, log: StepLog) -> Any:
    """The metered trainer with reward, callbacks and data in place."""
    import datasets

    from gainwatt.training.trainer import CompleteCallback, MeteredGRPOTrainer, PromptLedger, StepCallback

    tokenizer = load_tokenizer(base.folder, trust_remote_code=study.model.trust_remote_code)
    ledger = PromptLedger()

    def reward(completions: list[Any], gold: list[str], index: list[int], **_: Any) -> list[float]:
        ledger.saw(index)
        return [score_reward(turns[0]["content"], answer) for turns, answer in zip(completions, gold, strict=True)]

    quantized = study.train.lora is not None and study.train.lora.quantized_base
    steps = StepCallback(log, ledger, train_items=len(items), patience_steps=study.train.zero_variance_patience_steps)
    trainer = MeteredGRPOTrainer(
        model=load_policy(study, base, weights=NF4 if quantized else "fp32"),
        reward_funcs=reward,
        args=config,
        train_dataset=datasets.Dataset.from_list(prompt_rows(study, items, tokenizer)),
        processing_class=tokenizer,
        peft_config=lora_config(study.train),
        callbacks=[steps, CompleteCallback()],
        on_rollout=lambda: job.phase("rollout"),
    )
    steps.trainer = trainer
    sum_gradients_in_fp32(trainer)
    job.settings["effective"] = {key: value for key, value in config.to_dict().items() if _plain(value)}
    job.settings["processes"] = trainer.accelerator.num_processes
    job.settings["parallel"] = study.parallel.model_dump(mode="json")
    return trainer


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def train(job: Job, study: Study, args: argparse.Namespace, seed: int) -> None:
    """Load, train (or go on), save, and fill the record."""
    with job.phase("load"):
        check_processes()
        base = read_manifest(args.base)
        items = read_items(args.data, limit=study.train.prompts)
        job.add_input("base", base.sha256)
        job.add_input("data", file_sha256(args.data))
        same_run = text_sha256(
            f"{study.settings_sha256('train_grpo')} {base.sha256} {file_sha256(args.data)} {seed}"
            + (" sharded" if study.parallel.sharding == "fsdp" else "")  # its checkpoints are of another kind
        )
        config = make_config(study.train, seed, args.work, study.parallel)
        with config.main_process_first(local=False):
            checkpoint = last_complete(args.work, same_run, before=study.train.max_steps)
            job.keep_energy(args.work / "energy.json", same_run)
            log = StepLog(args.work, resume_step=step_of(checkpoint))
        trainer = make_trainer(job, study, base, items, config, log)
    with job.phase("train"), naming(args.work):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    with job.phase("save"):
        model = whole_model(trainer, base.folder, trust_remote_code=study.model.trust_remote_code)
        if model is None:
            return  # not the first process
        save_final(model, trainer.processing_class, base, args.manifest.parent, dtype=study.model.dtype)
        made = write_manifest(
            args.manifest, variant=args.variant, scheme=DENSE, parent_sha256=base.sha256,
            about={"steps": study.train.max_steps, "seed": seed},
        )  # fmt: skip
    describe(job, study, log, made, base, resumed_from=step_of(checkpoint))
    steps = args.record.with_suffix(".steps.parquet")
    log.write_parquet(steps)
    job.add_output("steps", steps)
    # The checkpoints for resuming are several times the size of the model, and nothing reads them any more.
    job.on_written(lambda: shutil.rmtree(args.work, ignore_errors=True))


def describe(job: Job, study: Study, log: StepLog, made: Checkpoint, base: Checkpoint, *, resumed_from: int) -> None:
    """Metrics of a finished training run."""
    rows = log.rows
    tail = rows[-max(1, len(rows) // 10) :]
    seconds = sum(row["step_s"] for row in rows)
    rollout_s = sum(row["rollout_s"] for row in rows)
    completions = study.train.num_generations * rows[-1]["prompts_seen"]
    job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
    job.metrics.update(
        steps=len(rows),
        steps_this_run=len(rows) - resumed_from,
        resumed_from_step=resumed_from,
        reward_first=rows[0]["reward"],
        reward_last=sum(row["reward"] for row in tail) / len(tail),
        frac_reward_zero_std_mean=sum(row["frac_reward_zero_std"] for row in rows) / len(rows),
        clipped_ratio_mean=sum(row["clipped_ratio"] for row in rows) / len(rows),
        completion_tokens_mean=sum(row["completion_tokens_mean"] for row in rows) / len(rows),
        step_s_mean=seconds / len(rows),
        rollout_s=rollout_s,
        update_s=seconds - rollout_s,
        rollouts_per_min=60 * completions / rollout_s,
        prompts_seen=rows[-1]["prompts_seen"],
        unique_prompts=rows[-1]["unique_prompts"],
        prompts_per_step=prompts_per_step(study.train),
        epochs=rows[-1]["epochs"],
        completions=completions,
        **update_size(base.folder, made.folder),
        **{name: value for name, value in memory_mib().items() if value is not None},
    )
    job.measured(warm_speed(rows, study.train.num_generations), "every step was the first of its process")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--variant", required=True, help="grpo-s<seed>, one of the study's train.seeds")
    parser.add_argument(
        "--base", type=Path, metavar="FILE", help="manifest of the base model (default: from the study)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="train.jsonl (default: from the study)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for resumable checkpoints (default: from the study)"
    )
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    seed = training_seed(study, args.variant)
    args.base = args.base or layout.manifest(BASE)
    args.data = args.data or layout.data("train")
    args.manifest = args.manifest or layout.manifest(args.variant)
    args.record = args.record or layout.record("train_grpo", args.variant)
    args.work = args.work or layout.work("train_grpo", args.variant)
    found = launch.plan(study, os.environ)
    log = layout.log("train_grpo", args.variant)
    failure: Exception | None = None
    if found is not None:
        try:
            base = read_manifest(args.base, verify=False).folder  # the training processes verify it
            return launch.run(study, found, model=base, log=log, environ=os.environ)
        except (MemoryError, UnavailableError) as error:  # a result of this job
            failure = error
    if "WORLD_SIZE" in os.environ:
        end_with_parent()  # a launcher that is killed would leave its processes training
    rank, several = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1")) > 1
    main_process = rank == "0"
    with Job(
        stage="train_grpo", cell={"variant": args.variant}, study=study, record=args.record, active=main_process
    ) as job:
        if failure is not None:
            raise failure
        train(job, study, args, seed)
    if job.status != "ok" and main_process:
        write_missing(args.manifest, variant=args.variant, scheme=DENSE, status=job.status, reason=job.reason or "")
    if job.status != "ok" and several:
        launch.note_result(log, rank, job.status, job.reason or "")
    # The other processes wait for one that has run out of memory: the launcher ends them where this one fails.
    return 1 if job.status != "ok" and several else 0


if __name__ == "__main__":
    cli.run(main)

"""TRL's GRPOTrainer with the rollout phase metered, and the callbacks that log, guard and mark checkpoints.

Importing this module imports TRL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import GRPOTrainer

from gainwatt.atomic import write_text
from gainwatt.energy import cuda_synchronize
from gainwatt.errors import InputError
from gainwatt.training.resume import COMPLETE
from gainwatt.training.sharding import generating_in_step
from gainwatt.training.steplog import COLUMNS, StepLog


class MeteredGRPOTrainer(GRPOTrainer):
    """GRPOTrainer that reports when rollouts are generated.

    `on_rollout()` returns a context manager that is entered around each generation; `rollout_s` is the time spent
    generating since the trainer started.
    """

    def __init__(self, *args: Any, on_rollout: Callable[[], Any], **kwargs: Any) -> None:
        self.on_rollout = on_rollout
        self.rollout_s = 0.0
        super().__init__(*args, **kwargs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        with self.on_rollout(), generating_in_step(self):
            generated = super()._generate_single_turn(*args, **kwargs)
        self.rollout_s += time.monotonic() - started
        return generated


class PromptLedger:
    """Which prompts each step used. Called by the reward function, which sees every completion once."""

    def __init__(self) -> None:
        self._pending: list[int] = []

    def saw(self, indices: list[int]) -> None:
        """Note the prompt index of each completion of this process; all processes' indices are collected."""
        from accelerate.utils import gather_object

        self._pending.extend(dict.fromkeys(gather_object(list(indices))))

    def take(self) -> list[int]:
        """The prompts noted since the last call, each once."""
        taken, self._pending = list(dict.fromkeys(self._pending)), []
        return taken


class StepCallback(TrainerCallback):
    """Writes one row per optimizer step and stops a run whose reward never varies.

    `cold` marks the first step of each process: loading and choosing kernels made it take twice the time of the others
    on an H200.
    """

    def __init__(self, log: StepLog, ledger: PromptLedger, *, train_items: int, patience_steps: int) -> None:
        self.log = log
        self.ledger = ledger
        self.train_items = train_items
        self.patience_steps = patience_steps
        self.trainer: MeteredGRPOTrainer | None = None
        self.unique = set(log.prompt_indices())
        self.seen = len(log.prompt_indices())
        self._begun = 0.0
        self._rollout_before = 0.0
        self._step_s = 0.0
        self._first: int | None = None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock of a step, once the GPU has nothing left to do."""
        cuda_synchronize()
        self._begun = time.monotonic()
        self._rollout_before = self.trainer.rollout_s if self.trainer else 0.0

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop the clock of a step, once its work on the GPU is done and not when it is queued."""
        cuda_synchronize()
        self._step_s = time.monotonic() - self._begun

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append the step's row; the last log of a run holds totals and no reward, and is passed over."""
        if not logs or "reward" not in logs or not state.is_world_process_zero:
            return
        used = self.ledger.take()
        self._first = state.global_step if self._first is None else self._first
        self.seen += len(used)
        self.unique.update(used)
        rollout_s = (self.trainer.rollout_s if self.trainer else 0.0) - self._rollout_before
        row: dict[str, Any] = {column: logs.get(key) for key, column in COLUMNS.items()}
        row |= {
            "step": state.global_step,
            "step_s": self._step_s,
            "rollout_s": rollout_s,
            "update_s": self._step_s - rollout_s,
            "cold": state.global_step == self._first,
            "prompts_seen": self.seen,
            "unique_prompts": len(self.unique),
            "epochs": self.seen / self.train_items,
            "prompt_indices": used,
        }
        self.log.append(row)
        self._guard()

    def _guard(self) -> None:
        first = self.log.rows[: self.patience_steps]
        if len(self.log.rows) == self.patience_steps and all(row["frac_reward_zero_std"] == 1 for row in first):
            raise InputError(
                f"in each of the first {self.patience_steps} steps every completion of a group got the same reward "
                f"(last mean {first[-1]['reward']:.2f}): nothing can be learned from that",
                "use a base model that solves some problems, more completions per prompt (train.num_generations) "
                "or a higher train.temperature; train.zero_variance_patience_steps sets how long to wait",
            )


class CompleteCallback(TrainerCallback):
    """Marks a resumable checkpoint as whole once everything in it is written; the last step makes none."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """No run goes on from the last step (see `last_complete`), and its weights are saved on their own."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the mark; a checkpoint without it is removed when training goes on."""
        if state.is_world_process_zero:
            write_text(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, f"{state.global_step}\n")

"""TRL's trainer under a watch: which part of a step runs, what the rollouts were, and steps that ran out of memory.

Importing this module imports TRL.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import TrainerCallback

from gainwatt.oom import is_out_of_memory
from gainwatt.profiling.training_parts import StepWatch
from gainwatt.profiling.training_rows import eos_trimmed_length, step_row
from gainwatt.training.steplog import StepLog
from gainwatt.training.trainer import MeteredGRPOTrainer, PromptLedger


class ProfiledGRPOTrainer(MeteredGRPOTrainer):
    """GRPOTrainer that goes on with the next step where one ran out of memory.

    Such a step changes no weight: its gradients are dropped and the optimizer is not called. `failure` is the part in
    which memory ran out and the message; None for a step that went well.
    """

    def __init__(self, *args: Any, watch: StepWatch, **kwargs: Any) -> None:
        self.watch = watch
        self.failure: tuple[str, str] | None = None
        self.batches: list[list[int]] = []
        self.prompt_tokens: list[int] = []
        super().__init__(*args, on_rollout=watch.rollout, **kwargs)

    def begin_step(self) -> None:
        """Forget the step before."""
        self.failure = None
        self.batches, self.prompt_tokens = [], []

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        self.prompt_tokens += [len(ids) for ids in prompt_ids]
        self.batches.append([eos_trimmed_length(ids, self.eos_token_ids) for ids in completion_ids])
        return completion_ids, logprobs

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = super()._prepare_inputs(generation_batch)
        if self.model.training:
            self.watch.enter("update")
        return inputs

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass; after a failure the rest of the step's passes are left out."""
        if self.failure is None:
            with self._short_of_memory():
                return super().training_step(model, inputs, num_items_in_batch)
            self._free()
        self._step += 1  # as TRL counts passes: it generates again by this number
        return torch.zeros((), device=self.accelerator.device)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.failure is None:
            with self._short_of_memory():
                return super()._clip_grad_norm(model)
            self._free()
        return torch.zeros((), device=self.accelerator.device)

    def guard_optimizer(self) -> None:
        """Leave the optimizer's step out where the step has failed, and take its own lack of memory for a failure."""
        step = self.optimizer.step

        @functools.wraps(step)  # with the mark by which torch knows the step that its scheduler counts
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self.failure is None:
                with self._short_of_memory():
                    return step(*args, **kwargs)
                self._free()
            return None

        self.optimizer.step = guarded

    @contextlib.contextmanager
    def _short_of_memory(self) -> Iterator[None]:
        """Take a lack of memory for the step's failure; any other error goes on as it came."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:300] or type(error).__name__
            self.failure = (self.watch.part or "step", text)
            self.watch.leave()

    def _free(self) -> None:
        """Give back what the failed step held. Called when the exception, and with it its frames, is gone."""
        self._buffered_inputs = None
        self.model.zero_grad(set_to_none=True)
        states = getattr(self.optimizer, "state", {})
        for parameter in [key for key, state in states.items() if "step" in state and "exp_avg_sq" not in state]:
            del states[parameter]  # moments of which only some found room; they start anew
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None:
            scaler._per_optimizer_states.clear()
        if self.args.gradient_checkpointing:
            # TRL switches it off to generate, and on again only where generating went well.
            unwrapped = self.accelerator.unwrap_model(self.model)
            unwrapped.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
            )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class ProfileCallback(TrainerCallback):
    """Drives the watch, and logs one row a step, steps that ran out of memory included."""

    def __init__(
        self,
        log: StepLog,
        ledger: PromptLedger,
        *,
        warmup_steps: int,
        on_save: Callable[[], None],
        resumed_from: int = 0,
    ) -> None:
        """`warmup_steps` count from the step that this process goes on from: its GPU is as cold as at the start."""
        self.log = log
        self.ledger = ledger
        self.warm_from = resumed_from + warmup_steps
        self.keep = on_save
        self.trainer: ProfiledGRPOTrainer | None = None
        self.occurrences: dict[int, dict[str, int]] = {}
        """Step -> number of the meter's entry of each path, for the steps of this process."""
        self._ended: dict[str, Any] = {}

    @property
    def _watched(self) -> ProfiledGRPOTrainer:
        assert self.trainer is not None  # noqa: S101 - set by whoever makes both
        return self.trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """The optimizer exists now."""
        self._watched.guard_optimizer()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """A step begins with its rollout, or with the update of rollouts that are used again."""
        self._watched.begin_step()
        self._watched.watch.begin()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Gradients are there and clipped."""
        if self._watched.failure is None:
            self._watched.watch.enter("optimizer")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Close the books before anything is logged or saved."""
        self._ended = self._watched.watch.end()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append the step's row; the last log of a run holds totals and no loss, and is passed over."""
        if not logs or "loss" not in logs:
            return
        trainer = self._watched
        self.occurrences[state.global_step] = dict(trainer.watch.occurrences)
        self.log.append(
            step_row(
                step=state.global_step, warmup=state.global_step <= self.warm_from, failure=trainer.failure,
                timed=self._ended, batches=trainer.batches, group_size=trainer.num_generations,
                limit=trainer.max_completion_length, prompt_tokens=trainer.prompt_tokens,
                prompt_indices=self.ledger.take(), logs=logs,
            )
        )  # fmt: skip

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        """Keep the joules so far, for the process that goes on if this one is killed."""
        self.keep()

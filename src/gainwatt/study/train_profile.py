"""The section `train_profile` of a study: time, memory and energy of GRPO steps.

Optional. A study that leaves it out runs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.study.sections import NonNegative, Positive, Section

if TYPE_CHECKING:
    from gainwatt.study.model import Study

STAGE = "profile_training"
MOST_STEPS = 200
"""The meter lists this many occurrences of a phase one by one."""
_FREE = {"bases", "save_steps"}
Weights = Literal["bnb-nf4", "fp16", "bf16", "fp32"]


class TrainProfile(Section):
    """Profile of the GRPO step that the section `train` describes, with adapters on a frozen base model.

    Adapters are those of `train.lora`, or its defaults where the study trains all weights.
    """

    bases: Annotated[tuple[Weights, ...], Field(min_length=1)] = ("bnb-nf4",)
    """Types of the frozen weights, one run each: bnb-nf4 is QLoRA. Name an unquantized one as well for a ratio."""
    steps: Positive = 20
    """Optimizer steps that are measured."""
    warmup_steps: NonNegative = 2
    """Steps before them: logged, and left out of every number. As many are left out where a killed run goes on."""
    prompts: Positive | None = None
    """Use the first N training items, over and over (none: as `train.prompts` says)."""
    long_tail_threshold_tokens: Positive | None = None
    """A rollout of more tokens, counted to its first end token, belongs to the long tail (none: three quarters of
    train.max_completion_tokens)."""
    save_steps: Positive = 5
    """Checkpoint for resuming, every N steps: a killed job loses at most N steps."""
    seed: NonNegative = 0
    """Seed of the data order and of sampling."""

    @model_validator(mode="after")
    def _check(self) -> TrainProfile:
        if len(set(self.bases)) != len(self.bases):
            raise ValueError(f"bases {list(self.bases)} names a type twice")
        if self.steps + self.warmup_steps > MOST_STEPS:
            raise ValueError(f"steps + warmup_steps = {self.steps + self.warmup_steps}, at most {MOST_STEPS} are kept")
        return self


def deciding(section: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of the section (as JSON values) that decides what one run measures."""
    return section and {name: value for name, value in section.items() if name not in _FREE}


def profiled_bases(study: Study) -> list[str]:
    """Names of the records of the profile, one for each type of the frozen base; none without the section."""
    return [f"base.{weights}" for weights in study.train_profile.bases] if study.train_profile else []


def long_tail_threshold(study: Study) -> int:
    """The threshold in force, in tokens. The study must hold the section."""
    section = study.train_profile
    assert section is not None  # noqa: S101 - asked only where the branch runs
    return section.long_tail_threshold_tokens or 3 * study.train.max_completion_tokens // 4

"""The study: one YAML file, checked as a whole before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme
from gainwatt.study import profiling, serving
from gainwatt.study.evaluation import Evaluate, deciding
from gainwatt.study.heads import Heads, check_corpora, check_heads, deciding_scores
from gainwatt.study.llamacpp import LlamaCpp
from gainwatt.study.llamacpp import deciding as deciding_llamacpp
from gainwatt.study.operations import Cost, Embedded, Energy, Paths, Resources, Statistics
from gainwatt.study.parallel import Parallel, check_parallel
from gainwatt.study.quality import Perplexity, Tasks
from gainwatt.study.sections import Data, Diagnose, Model, Quantize, Section, Train, deciding_model
from gainwatt.study.train_profile import TrainProfile
from gainwatt.study.train_profile import deciding as deciding_profile
from gainwatt.study.validation import Validation

SECTIONS_OF_STAGE: dict[str, tuple[str, ...]] = {
    "prepare_data": (
        "data.source", "data.revision", "data.config", "data.train_limit", "data.test_limit", "embedded.problems",
    ),
    "fetch_model": ("model",),
    "warm_start": (
        "model.dtype", "data.prompt_template", "embedded.model", "embedded.warm_start",
        "-embedded.warm_start.save_steps",
    ),
    "train_grpo": (
        "train", "model", "data.prompt_template", "-train.seeds", "-train.save_steps",
        "-train.zero_variance_patience_steps", "-train.vllm_gpu_memory_utilization",
    ),
    "quantize": (
        "quantize", "data.prompt_template", "model", "-quantize.schemes", "-quantize.reference",
        "-quantize.smoke_tokens",
    ),
    "evaluate_gsm8k": ("evaluate", "model.dtype", "data.prompt_template"),
    "evaluate_endpoint": ("evaluate", "model.dtype", "data.prompt_template"),
    "evaluate_perplexity": ("perplexity", "model.dtype"),
    "evaluate_tasks": ("tasks", "model.dtype"),
    "benchmark_serving": ("serve", "model.dtype", "data.prompt_template"),
    "diagnose_weights": (
        "diagnose", "quantize.reference", "quantize.calibration_items", "quantize.calibration_max_tokens",
        "quantize.calibration_seed", "data.prompt_template", "model", "-diagnose.sft_control",
    ),
    "train_sft_control": (
        "train.max_steps", "train.learning_rate", "train.lr_scheduler_type", "train.warmup_steps", "train.adam_beta1",
        "train.adam_beta2", "train.adam_epsilon", "train.weight_decay", "train.max_grad_norm", "train.prompts",
        "train.num_generations", "train.per_device_train_batch_size", "train.gradient_accumulation_steps",
        "train.max_prompt_tokens", "train.max_completion_tokens", "train.precision", "model", "data.prompt_template",
    ),
    "profile_training": (
        "train_profile", "train", "model", "data.prompt_template", "-train.seeds", "-train.max_steps",
        "-train.save_steps", "-train.zero_variance_patience_steps", "-train.vllm_gpu_memory_utilization",
    ),
    "profile_inference": ("profile", "model.dtype"),
    "fetch_gguf": (
        "llamacpp.source", "llamacpp.revision", "llamacpp.file", "llamacpp.make_from", "llamacpp.quant_types",
        "llamacpp.arm_type",
    ),
    "profile_llamacpp": ("llamacpp",),
    "score_heads": ("heads", "model.dtype"),
    "prune_heads": ("heads.prune", "evaluate", "model.dtype", "data.prompt_template"),
    "make_tables": ("statistics", "cost", "quantize.reference", "quantize.schemes"),
    "make_figures": ("statistics", "cost", "quantize.reference", "quantize.schemes"),
    "validate": ("validation",),
}  # fmt: skip
"""The settings that decide a stage's result. Only a change of these makes a stage run again.

A name after `-` is left out again: one more seed or scheme must not make the cells that are there run again, and how
often a job saves, or how much memory it may take, does not decide what it computes.
"""

_DECIDING: dict[str, Callable[[Any], Any]] = {
    "evaluate": deciding, "serve": serving.deciding, "heads": deciding_scores, "train_profile": deciding_profile,
    "profile": profiling.deciding, "llamacpp": deciding_llamacpp, "model": deciding_model,
}  # fmt: skip
"""Sections of which a part alone decides a result."""


class Study(Section):
    """Everything that one study measures and how: base and trained variants, schemes, evaluation, judgement."""

    study: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
    """Name; also the folder of its results."""
    description: str = ""
    """What the study is for, in a sentence or two."""
    data: Data
    """The questions."""
    model: Model
    """The base model."""
    matrix: bool = True
    """Train, quantize, evaluate and diagnose every variant and scheme; `false`: run only the optional sections, on the
    base and on those trained variants that `serve.variants` and `profile.variants` name."""
    embedded: Embedded = Embedded()
    """Used only where data or model say `embedded`."""
    train: Train = Train()
    """GRPO."""
    parallel: Parallel = Parallel()
    """GRPO on several GPUs."""
    quantize: Quantize = Quantize()
    """Schemes and calibration."""
    evaluate: Evaluate = Evaluate()
    """Decoding."""
    perplexity: Perplexity | None = None
    """Sliding-window perplexity of every cell (none: not measured)."""
    tasks: Tasks | None = None
    """Tasks of lm-eval on every cell (none: not measured)."""
    llamacpp: LlamaCpp | None = None
    """Profile of llama.cpp: suites, CPU against GPU, ablations, quantization types (none: not measured)."""
    serve: serving.Serve | None = None
    """The serving benchmark (none: not measured)."""
    train_profile: TrainProfile | None = None
    """Time, memory and energy of GRPO steps (none: not measured)."""
    profile: profiling.Profile | None = None
    """Speed, memory and energy of generation by precision and load (none: not measured)."""
    heads: Heads | None = None
    """Scores of attention heads, and pruning by them (none: not measured)."""
    published: Literal["powerbench"] | None = None
    """Published numbers that tables show beside ours (none: no such tables)."""
    diagnose: Diagnose = Diagnose()
    """Weights."""
    statistics: Statistics = Statistics()
    """Judgement."""
    energy: Energy = Energy()
    """Metering."""
    validation: Validation = Validation()
    """Thresholds of the validator."""
    cost: Cost = Cost()
    """Prices."""
    resources: Resources = Resources()
    """What each kind of job asks of the machine."""
    environments: dict[str, str] = Field(default_factory=dict)
    """Interpreters that replace the pinned environments: name of the environment -> path of a python."""
    paths: Paths = Paths()
    """Folders."""

    @model_validator(mode="after")
    def _check(self) -> Study:
        names = (self.quantize.reference, *self.quantize.schemes)
        for name in names:
            try:
                get_scheme(name)
            except InputError as error:
                raise ValueError(f"quantize: {error.what}; {error.hint}") from error
        if len(set(names)) != len(names):
            raise ValueError(f"quantize: a scheme is named twice in {list(names)}")
        if not get_scheme(self.quantize.reference).dense:
            raise ValueError(
                f"quantize.reference: {self.quantize.reference!r} is quantized; name an unquantized scheme"
            )
        check_parallel(self)
        if self.data.source == "embedded":
            self._check_embedded_sizes()
        variants = ["base", *(f"grpo-s{seed}" for seed in self.train.seeds)]
        if self.profile is not None:
            profiling.check(self.profile, variants, list(names))
        if self.serve is not None:
            serving.check(self.serve, variants, list(names))
        if self.heads is not None:
            check_heads(self.heads, list(names))
            check_corpora(self.heads, self.perplexity)
        return self

    def _check_embedded_sizes(self) -> None:
        problems = self.embedded.problems
        for name, wanted, there in (
            ("train.prompts", self.train.prompts, problems.train_items),
            ("data.train_limit", self.data.train_limit, problems.train_items),
            ("data.test_limit", self.data.test_limit, problems.test_items),
            ("quantize.calibration_items", self.quantize.calibration_items, problems.train_items),
        ):
            if wanted is not None and wanted > there:
                raise ValueError(f"{name} asks for {wanted} items, but embedded.problems makes only {there}")

    def settings(self, stage: str) -> dict[str, Any]:
        """The part of the study that decides the result of `stage`, as plain JSON values."""
        whole = self.model_dump(mode="json")
        chosen: dict[str, Any] = {}
        for dotted in SECTIONS_OF_STAGE[stage]:
            if dotted.startswith("-"):
                section, _, key = dotted[1:].rpartition(".")
                del chosen[section][key]
            else:
                value: Any = whole
                for key in dotted.split("."):
                    value = None if value is None else value[key]  # of an optional section
                chosen[dotted] = _DECIDING[dotted](value) if dotted in _DECIDING else value
        return chosen

    def settings_sha256(self, stage: str) -> str:
        """SHA-256 of `settings(stage)`; changes when, and only when, a setting of the stage changes."""
        text = json.dumps(self.settings(stage), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def is_hub(source: str) -> bool:
    """True where a source is a repository of the Hugging Face hub."""
    return source.startswith("hub:")


def hub_id(source: str) -> str:
    """`ORG/NAME` of a hub source. Raises InputError for anything else."""
    if not re.fullmatch(r"hub:[\w.-]+/[\w.-]+", source):
        raise InputError(f"{source!r} is not a hub source", "write hub:ORG/NAME, a folder, or embedded")
    return source.removeprefix("hub:")

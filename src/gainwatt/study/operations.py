"""The sections of a study file that say how it is run and judged: statistics, energy, cost, machines, folders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gainwatt.study.sections import NonNegative, Positive, Section, Share


class Statistics(Section):
    """How differences are judged. The margin is declared before the first measurement."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""
    bootstrap_draws: Annotated[int, Field(ge=200, strict=True)] = 10_000
    """Resamples of the paired bootstrap."""
    survival_margin: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """A gain survives when its loss under quantization is smaller than this share of the items, with confidence."""
    seed: NonNegative = 0
    """Seed of the bootstrap."""


class Energy(Section):
    """The energy meter."""

    sample_hz: Annotated[float, Field(gt=0, le=100)] = 10.0
    """Power samples per second and device, at least: a faster record that the driver keeps is read where it exists."""
    idle_s: Annotated[float, Field(ge=0, le=120)] = 10.0
    """Seconds of idle power measured before and after the work; 0 leaves net joules null."""
    rapl: bool = True
    """Read CPU and DRAM energy from powercap where it is readable."""


class Cost(Section):
    """Prices. A price that is not given leaves the dollars null."""

    electricity_usd_per_kwh: Annotated[float, Field(ge=0)] | None = None
    """Price of electricity."""
    machine_usd_per_h: Annotated[float, Field(ge=0)] | None = None
    """Rent of the machine (all of its GPUs) for one hour."""
    pue: Annotated[float, Field(ge=1, le=3)] = 1.0
    """Power usage effectiveness: facility power over IT power; 1.0 for a machine at home."""


Difficult = Annotated[int, Field(ge=2)]
"""An upper end of a range of numbers; every range starts at 2."""


class Needs(Section):
    """What one job of a rule asks of the machine or the cluster."""

    gpus: NonNegative = 0
    """GPUs; the script runs once on all of them."""
    threads: Positive = 1
    """CPU threads."""
    mem_mb: Positive = 8000
    """Main memory of the first attempt; a retry asks for as much again."""
    runtime_min: Positive = 60
    """Time limit of the first attempt in minutes; a retry asks for as much again."""
    environment: str = "core"
    """Pinned environment of envs/ that the rule's script runs in."""


class Resources(Section):
    """Needs by kind of rule."""

    light: Needs = Needs(mem_mb=4000, runtime_min=30)
    """Preparing data, tables, figures."""
    prepare: Needs = Needs()
    """Fetching or warm-starting the base model."""
    train: Needs = Needs()
    """GRPO training."""
    quantize: Needs = Needs()
    """Making a quantized checkpoint."""
    evaluate: Needs = Needs()
    """Evaluating one cell."""
    perplexity: Needs = Needs()
    """Measuring the perplexity of one cell."""
    tasks: Needs = Needs(environment="lm-eval")
    """Tasks of lm-eval on one cell."""
    diagnose: Needs = Needs()
    """Weight diagnostics."""
    heads: Needs = Needs()
    """Scoring heads, and pruning by them, on one checkpoint."""
    train_profile: Needs = Needs()
    """Profile of GRPO steps; runs on one GPU."""
    profile: Needs = Needs()
    """Profile of generation: one group of arms."""
    llamacpp: Needs = Needs(environment="llamacpp")
    """Profile of llama.cpp, and the GGUF files for it."""
    serve: Needs = Needs()
    """Serving benchmark of one checkpoint."""


class Problems(Section):
    """Size and difficulty of the generated problems. Every result of every step is an integer of at least 1."""

    sft_items: Positive = 12000
    """Solved problems for the warm start; a combination of numbers may be told more than once."""
    drill_items: NonNegative = 3600
    """Rows of bare arithmetic added to them: the same steps at a third of the tokens."""
    more_sft: tuple[str, ...] = ()
    """Files of solved problems (JSON lines as GSM8K's train.jsonl) that the warm start sees too; never test items."""
    train_items: Positive = 1000
    """Prompts for GRPO, also the calibration items; each with its own combination of numbers."""
    validation_items: Positive = 500
    """Problems on which settings were chosen."""
    test_items: Positive = 1000
    """Held-out problems of the evaluation."""
    start_max: Difficult = 15
    """Largest number that somebody has at first."""
    change_max: Difficult = 10
    """Largest number added or taken away."""
    count_max: Difficult = 5
    """Largest number of containers or times."""
    each_max: Difficult = 6
    """Largest number in each container, or price of one."""
    divisor_max: Difficult = 5
    """Largest number of people who share."""
    value_max: Difficult = 60
    """Largest result of any step."""
    families: tuple[str, ...] | None = None
    """Kinds of problem that are used (none: the default ones)."""
    unfinished_share: Share = 0.6
    """Share of the longer warm-start solutions that stop one step early, so that their answer is wrong."""
    unfinished_min_steps: Annotated[int, Field(ge=2)] = 4
    """A solution is longer from this many steps on."""
    reversal_share: Share = 0.6
    """Share of warm-start solutions with a comparison ("3 fewer than") that take it the wrong way round."""
    seed: NonNegative = 0
    """Seed of the generator."""


class TinyModel(Section):
    """A small Qwen2-architecture model made from scratch."""

    vocab_size: Positive = 768
    """Upper limit of the byte-pair vocabulary."""
    hidden_size: Positive = 128
    """Width; a multiple of 128, so that groups of 128 divide every layer."""
    intermediate_size: Positive = 256
    """Width of the MLP; a multiple of 128."""
    layers: Positive = 4
    """Transformer blocks."""
    heads: Positive = 4
    """Attention heads."""
    kv_heads: Positive = 2
    """Key-value heads."""
    max_tokens: Positive = 512
    """Longest prompt and answer together."""


class WarmStart(Section):
    """Supervised training of the small model from scratch; the loss counts the solution's tokens only."""

    steps: Positive = 1700
    """Optimizer steps."""
    batch_size: Positive = 8
    """Solved problems per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1.5e-3
    """Peak learning rate; falls linearly to 0 after the warm-up."""
    warmup_steps: NonNegative = 30
    """Steps of linear warm-up."""
    adam_beta1: Share = 0.9
    """AdamW beta 1."""
    adam_beta2: Share = 0.99
    """AdamW beta 2."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping norm."""
    save_steps: Positive = 200
    """Checkpoint for resuming, every N steps."""
    seed: NonNegative = 1
    """Seed of initial weights and data order."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the matrix products; weights and optimizer stay in fp32."""


class Embedded(Section):
    """The study that needs no download: generated problems, a small model, a warm start from scratch."""

    problems: Problems = Problems()
    """The generator."""
    model: TinyModel = TinyModel()
    """The architecture."""
    warm_start: WarmStart = WarmStart()
    """The supervised training before GRPO."""


class Paths(Section):
    """Where things are written."""

    results: str = "results"
    """Records, tables, figures and logs go to `<results>/<study>/`."""
    scratch: str | None = None
    """Checkpoints and unfinished work go to `<scratch>/<study>/` (none: the results folder); on a cluster every
    node must see it under this path."""

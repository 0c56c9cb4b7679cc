"""The sections of a study file that say how it is run and judged: statistics, energy, cost, machines, folders."""

from __future__ import annotations

from typing import Annotated

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
    """Power samples per second and device."""
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
    diagnose: Needs = Needs()
    """Weight diagnostics."""


class Problems(Section):
    """Size and difficulty of the generated problems."""

    sft_items: Positive = 6000
    """Solved problems for the warm start."""
    train_items: Positive = 4000
    """Prompts for GRPO (and calibration)."""
    validation_items: Positive = 500
    """Problems on which settings were chosen."""
    test_items: Positive = 1000
    """Held-out problems of the evaluation."""
    seed: NonNegative = 0
    """Seed of the generator."""


class TinyModel(Section):
    """A small Qwen2-architecture model made from scratch."""

    vocab_size: Positive = 768
    """Upper limit of the byte-pair vocabulary."""
    hidden_size: Positive = 128
    """Width; a multiple of 128, so that groups of 128 divide every layer."""
    intermediate_size: Positive = 256
    """Width of the MLP."""
    layers: Positive = 4
    """Transformer blocks."""
    heads: Positive = 4
    """Attention heads."""
    kv_heads: Positive = 2
    """Key-value heads."""


class WarmStart(Section):
    """Supervised training of the small model from scratch."""

    steps: Positive = 800
    """Optimizer steps."""
    batch_size: Positive = 16
    """Solved problems per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate; falls linearly to 0."""
    warmup_steps: NonNegative = 30
    """Steps of linear warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW weight decay."""
    careless_share: Share = 0.0
    """Share of warm-start solutions that stop before the last step, so that their answer is wrong."""
    save_steps: Positive = 200
    """Checkpoint for resuming, every N steps."""
    seed: NonNegative = 0
    """Seed of initial weights and data order."""


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
    """Checkpoints and unfinished work go to `<scratch>/<study>/` (none: the results folder)."""

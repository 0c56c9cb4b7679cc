"""The sections of a study file that say what is measured: data, model, training, quantization, diagnosis.

Every field has its unit in its name or its description; a field that a study does not name takes the default here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gainwatt.gsm8k.prompt import DEFAULT_TEMPLATE

Dtype = Literal["fp32", "bf16", "fp16"]
# Strict: YAML knows integers, and a `yes` or a "16" where a number belongs is a mistake.
Positive = Annotated[int, Field(ge=1, strict=True)]
NonNegative = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Data(Section):
    """Where the questions come from."""

    source: str = "hub:openai/gsm8k"
    """`hub:ORG/NAME`, a local folder with train.jsonl and test.jsonl, or `embedded` for the generated problems."""
    revision: str | None = None
    """Commit of the hub data set; required with a hub source."""
    config: str = "main"
    """Configuration of the hub data set."""
    train_limit: Positive | None = None
    """Use only the first N training items."""
    test_limit: Positive | None = None
    """Use only the first N test items."""
    prompt_template: str = DEFAULT_TEMPLATE
    """User turn in training and evaluation; holds `{question}` once."""

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.prompt_template.count("{question}") != 1:
            raise ValueError("prompt_template must hold {question} exactly once")
        if self.source.startswith("hub:") and not self.revision:
            raise ValueError("a hub source needs `revision`, the commit to read, so that the study can be repeated")
        return self


class Model(Section):
    """The base model."""

    source: str
    """`hub:ORG/NAME`, a local folder with config.json and *.safetensors, or `embedded` for the small own model."""
    revision: str | None = None
    """Commit of the hub repository; required with a hub source."""
    dtype: Dtype = "bf16"
    """Type in which every unquantized checkpoint of the study is stored (base and trained alike)."""
    trust_remote_code: bool = False
    """Allow code that comes with the checkpoint to run. Off unless you have read that code."""
    thinking: bool | None = None
    """Switch the model's thinking on or off in its chat template, for training, evaluation and serving alike."""

    @model_validator(mode="after")
    def _check(self) -> Model:
        if self.thinking is not None and self.source == "embedded":
            raise ValueError("the embedded model has no thinking to switch; leave `thinking` out")
        if self.source.startswith("hub:") and not self.revision:
            raise ValueError("a hub source needs `revision`, the commit to read, so that the study can be repeated")
        return self


def deciding_model(model: dict[str, Any]) -> dict[str, Any]:
    """The model's settings; a thinking that is not switched is no setting."""
    return {key: value for key, value in model.items() if key != "thinking" or value is not None}


class Lora(Section):
    """Low-rank adapters instead of full training; merged into the base before anything is saved or evaluated."""

    r: Positive = 16
    """Rank."""
    alpha: Positive = 32
    """Scale numerator."""
    dropout: Share = 0.0
    """Dropout on the adapter input."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Linear layers that get an adapter."""
    quantized_base: bool = False
    """QLoRA: keep the frozen base in NF4 (double quantization) during training."""


class Train(Section):
    """GRPO settings. Each value that TRL would otherwise choose itself is a field here, so that a rerun repeats it."""

    seeds: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (42,)
    """One trained variant, `grpo-s<seed>`, for each."""
    prompts: Positive | None = None
    """Use the first N training items as prompts (none: all)."""
    max_steps: Positive = 250
    """Optimizer steps."""
    num_generations: Annotated[int, Field(ge=2, strict=True)] = 8
    """Completions per prompt: the group size."""
    per_device_train_batch_size: Positive = 1
    """Completions in one forward and backward pass on one GPU."""
    gradient_accumulation_steps: Positive = 8
    """Passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    lr_scheduler_type: Literal["linear", "constant", "cosine", "constant_with_warmup"] = "linear"
    """Learning-rate schedule."""
    warmup_steps: NonNegative = 0
    """Steps of linear warm-up."""
    adam_beta1: Share = 0.9
    """AdamW beta 1."""
    adam_beta2: Share = 0.999
    """AdamW beta 2."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW epsilon."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping norm."""
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL term; 0 needs no reference model."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dr_grpo"
    """How token losses are averaged."""
    scale_rewards: Literal["group", "batch", "none"] = "none"
    """Divide advantages by the standard deviation of the group, of the batch, or not at all."""
    num_iterations: Positive = 1
    """Updates per generated batch."""
    epsilon: Annotated[float, Field(gt=0)] = 0.2
    """Lower clip range."""
    epsilon_high: Annotated[float, Field(gt=0)] | None = None
    """Upper clip range (none: the same as epsilon)."""
    mask_truncated_completions: bool = False
    """Leave completions that hit the length limit out of the loss."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature of rollouts."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling of rollouts."""
    top_k: NonNegative = 0
    """Top-k sampling of rollouts; 0 switches it off."""
    min_p: Share | None = None
    """Minimum-probability sampling of rollouts."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Repetition penalty of rollouts."""
    max_prompt_tokens: Positive = 1024
    """A training item whose prompt is longer is an error before the first step."""
    max_completion_tokens: Positive = 512
    """Length limit of a rollout."""
    shuffle: bool = True
    """Shuffle the prompts with the training seed."""
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    """Autocast type of training; weights are held in fp32."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    save_steps: Positive = 50
    """Checkpoint for resuming, every N steps: a killed job loses at most N steps."""
    zero_variance_patience_steps: Positive = 25
    """Stop when the reward did not vary inside any group in each of the first N steps: nothing can be learned."""
    rollout_engine: Literal["transformers", "vllm"] = "transformers"
    """What generates rollouts; vllm runs in the same process (colocate) and needs the vllm environment."""
    vllm_gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of GPU memory that vLLM may take."""
    vllm_max_model_tokens: Positive | None = None
    """Longest prompt + completion for vLLM (none: max_prompt_tokens + max_completion_tokens)."""
    lora: Lora | None = None
    """Train low-rank adapters instead of all weights."""

    @model_validator(mode="after")
    def _check(self) -> Train:
        completions = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if completions % self.num_generations:
            raise ValueError(
                f"per_device_train_batch_size x gradient_accumulation_steps = {completions} completions per step "
                f"cannot be split into groups of num_generations = {self.num_generations}"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} names a seed twice")
        return self


class Quantize(Section):
    """Which schemes are compared, and the calibration of those that need it."""

    reference: str = "bf16"
    """The unquantized scheme that every other is compared with."""
    schemes: tuple[str, ...] = ("fp16", "bnb-nf4", "awq-w4g128")
    """The other schemes of the matrix."""
    calibration_items: Positive = 128
    """Training items used for calibration: chat prompt and reference solution."""
    calibration_max_tokens: Positive = 512
    """Calibration items are cut at this length."""
    calibration_seed: NonNegative = 0
    """Which training items: a seeded sample without replacement."""
    awq_grid_points: Annotated[int, Field(ge=3)] = 20
    """Points of AWQ's search for the scale exponent."""
    smoke_tokens: Positive = 8
    """Tokens that the smoke test after quantization generates."""


class Diagnose(Section):
    """Weight statistics and the 4-bit round-to-nearest proxy."""

    group_size: Positive = 128
    """Weights that share one scale, along the input axis."""
    outlier_multiplier: Annotated[float, Field(gt=1)] = 6.0
    """A weight is an outlier above this many medians of |w|."""
    include_embeddings: bool = False
    """Also measure embedding tables."""
    schemes: tuple[Literal["symmetric-w4", "bnb-nf4", "bnb-fp4", "bnb-int8", "fp8"], ...] = ("symmetric-w4", "bnb-nf4")
    """Quantizers whose error, and whose code flips under training and under the controls, need the weights alone."""
    random_control: bool = True
    """Also count the codes that random noise as large as the training's change flips."""
    outputs: bool = False
    """Also load the models: activations, layer outputs and logits on calibration text."""
    text_items: Positive = 16
    """Calibration items on which activations and outputs are looked at."""
    sft_control: bool = False
    """Also diagnose a supervised fine-tune of the base whose weights moved as far as those of the first seed's GRPO."""

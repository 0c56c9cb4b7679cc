"""From a study's training section to TRL's configuration, with every value that decides the result pinned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.study.parallel import Parallel, passes_per_process
from gainwatt.study.sections import Train
from gainwatt.training.rollout_server import GROUP_PORT_VARIABLE, URL_VARIABLE, longest


def grpo_arguments(
    train: Train, *, seed: int, output_dir: Path, cuda: bool, processes: int = 1, parallel: Parallel | None = None
) -> dict[str, Any]:
    """Keyword arguments of `trl.GRPOConfig` for one training seed on `processes` processes.

    The processes share the passes of a step, so that a step sees the same completions whatever their number. Values
    that this project adds on its own: one log line per step, two resumable checkpoints, no reporting service, no
    checkpoint at the end (the final weights are saved and hashed separately).
    """
    passes = passes_per_process(train.gradient_accumulation_steps, processes)
    arguments: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": seed,
        "data_seed": seed,
        "max_steps": train.max_steps,
        "num_generations": train.num_generations,
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "gradient_accumulation_steps": passes,
        "steps_per_generation": passes,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": train.warmup_steps,
        "optim": "adamw_torch",
        "adam_beta1": train.adam_beta1,
        "adam_beta2": train.adam_beta2,
        "adam_epsilon": train.adam_epsilon,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "beta": train.beta,
        "loss_type": train.loss_type,
        "scale_rewards": train.scale_rewards,
        "num_iterations": train.num_iterations,
        "epsilon": train.epsilon,
        "epsilon_high": train.epsilon_high,
        "mask_truncated_completions": train.mask_truncated_completions,
        "temperature": train.temperature,
        "top_p": train.top_p,
        "top_k": train.top_k,
        "min_p": train.min_p,
        "repetition_penalty": train.repetition_penalty,
        "max_completion_length": train.max_completion_tokens,
        "shuffle_dataset": train.shuffle,
        "bf16": train.precision == "bf16",
        "fp16": train.precision == "fp16",
        "gradient_checkpointing": train.gradient_checkpointing,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
        "disable_dropout": True,
        "importance_sampling_level": "token",
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": 2,
        "report_to": "none",
        "log_completions": False,
    }
    if train.rollout_engine == "vllm":
        arguments.update(_vllm_arguments(train, parallel or Parallel()))
    return arguments


def _vllm_arguments(train: Train, parallel: Parallel) -> dict[str, Any]:
    """vLLM in the training processes, or the server that the launcher has started and named in the environment."""
    arguments: dict[str, Any] = {"use_vllm": True, "vllm_importance_sampling_correction": True}
    if parallel.rollouts == "colocate":
        return arguments | {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": train.vllm_gpu_memory_utilization,
            "vllm_max_model_length": longest(train),
            "vllm_tensor_parallel_size": parallel.colocate_tensor_parallel_size,
        }
    if URL_VARIABLE not in os.environ:
        raise InputError(
            "the rollout server has not been started",
            "start the training script itself, without a launcher: it starts the server and the training processes",
        )
    return arguments | {
        "vllm_mode": "server",
        "vllm_server_base_url": os.environ[URL_VARIABLE],
        "vllm_group_port": int(os.environ[GROUP_PORT_VARIABLE]),
        "vllm_server_timeout": 60.0,  # it was healthy a moment ago
    }


def lora_config(train: Train) -> Any | None:
    """peft's configuration of the study's adapters, or None for full training."""
    if train.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=train.lora.r,
        lora_alpha=train.lora.alpha,
        lora_dropout=train.lora.dropout,
        target_modules=list(train.lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def prompts_per_step(train: Train) -> float:
    """Unique prompts in one optimizer step: TRL's batch sizes count completions, not prompts."""
    return train.per_device_train_batch_size * train.gradient_accumulation_steps / train.num_generations

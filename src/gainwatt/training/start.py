"""What every GRPO run starts from: prompts, the policy in the wanted precision, TRL's configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import user_turn
from gainwatt.modeling import torch_dtype
from gainwatt.study import Study
from gainwatt.study.parallel import Parallel
from gainwatt.study.sections import Train
from gainwatt.training.settings import grpo_arguments

NF4 = "bnb-nf4"


def prompt_rows(study: Study, items: Sequence[Item], tokenizer: Any) -> list[dict[str, Any]]:
    """TRL's rows: conversational prompt, gold answer, index. Raises InputError for a prompt that is too long."""
    rows = []
    for item in items:
        prompt = [{"role": "user", "content": user_turn(item.question, study.data.prompt_template)}]
        tokens = len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        if tokens > study.train.max_prompt_tokens:
            raise InputError(
                f"the prompt of training item {item.index} has {tokens} tokens, more than train.max_prompt_tokens = "
                f"{study.train.max_prompt_tokens}",
                "raise the limit or remove the item",
            )
        rows.append({"prompt": prompt, "gold": item.gold, "index": item.index})
    return rows


def load_policy(study: Study, base: Checkpoint, *, weights: str = "fp32") -> Any:
    """The model to train, its weights held as `weights`: fp32, bf16, fp16, or bnb-nf4 under adapters (QLoRA)."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch_dtype("fp32" if weights == NF4 else weights)}
    if weights == NF4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype(study.train.precision),
        )
    return AutoModelForCausalLM.from_pretrained(
        base.folder, local_files_only=True, trust_remote_code=study.model.trust_remote_code, **options
    )


def check_processes() -> None:
    """Raise InputError where one process sees several GPUs: each process trains on one."""
    import torch

    if torch.cuda.device_count() > 1 and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise InputError(
            f"one process sees {torch.cuda.device_count()} GPUs, and would use one of them only",
            "set CUDA_VISIBLE_DEVICES to one GPU, or say in the study how many GPUs train: resources.train.gpus",
        )


def make_config(train: Train, seed: int, work: Path, parallel: Parallel | None = None) -> Any:
    """TRL's configuration; making it also brings up the processes of a run on several GPUs."""
    import torch
    from trl import GRPOConfig

    cuda, processes = torch.cuda.is_available(), int(os.environ.get("WORLD_SIZE", "1"))
    arguments = grpo_arguments(
        train, seed=seed, output_dir=work, cuda=cuda, processes=processes, parallel=parallel
    )  # fmt: skip
    return GRPOConfig(**arguments)

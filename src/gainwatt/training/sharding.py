"""What FSDP asks of a GRPO run beyond its configuration: rollouts in step, and whole weights at the end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MARK = "_is_fsdp_managed_module"


def is_sharded(trainer: Any) -> bool:
    """True where the trainer's weights are cut into shards."""
    return bool(getattr(trainer, "is_fsdp_enabled", False))


def sum_gradients_in_fp32(trainer: Any) -> None:
    """Add up the processes' gradients in fp32, as without sharding; accelerate would take the autocast type.

    To be called before the trainer trains, which is when the model is cut.
    """
    plugin = trainer.accelerator.state.fsdp_plugin if is_sharded(trainer) else None
    if plugin is not None and plugin.mixed_precision_policy is not None:
        import torch

        policy = dataclasses.replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)
        plugin.mixed_precision_policy = policy


@contextlib.contextmanager
def generating_in_step(trainer: Any) -> Iterator[None]:
    """Let every process of a sharded model generate until the last one has finished.

    Each forward pass gathers shards from all processes: one that stopped at its last end token would leave the others
    waiting for good. transformers' `generate` knows that of models that it has sharded itself and marks so; accelerate
    shards without the mark.
    """
    model = trainer.model
    if not is_sharded(trainer) or getattr(model, _MARK, False):
        yield
        return
    setattr(model, _MARK, True)
    try:
        yield
    finally:
        delattr(model, _MARK)


def whole_model(trainer: Any, folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The trained model with whole weights, on the first process; None on the others, which must call this, too.

    Shards are gathered into the main memory of the first process. `folder` holds the base model: its configuration.
    """
    if not is_sharded(trainer):
        return trainer.accelerator.unwrap_model(trainer.model) if trainer.is_world_process_zero() else None
    state = trainer.accelerator.get_state_dict(trainer.model)
    # The others only hand their shards to the GPU's queue. Who ends before they have arrived leaves the first process
    # waiting for good: seen with 6.5 billion weights.
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return None
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    with contextlib.suppress(OSError):  # a base model without a file of its own
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model

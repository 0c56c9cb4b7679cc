"""The section `parallel` of a study: how GRPO training spreads over the GPUs of `resources.train`.

It decides no result but where it is computed: a step learns from the same completions on any number of GPUs, because
its passes (train.gradient_accumulation_steps) are shared among the training processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gainwatt.errors import InputError
from gainwatt.study.sections import Positive, Section

if TYPE_CHECKING:
    from gainwatt.study.model import Study


class Parallel(Section):
    """Several GPUs in one training; looked at only where `resources.train.gpus` is more than 1."""

    sharding: Literal["none", "fsdp"] = "none"
    """`none`: every training process holds the whole model; `fsdp`: weights, gradients and optimizer state are cut
    into shards (FSDP2, full shard), for models of 7B and more."""
    rollouts: Literal["colocate", "server"] = "colocate"
    """Where vLLM makes rollouts (train.rollout_engine: vllm): in the training processes, or as a server on GPUs of its
    own, which the training script starts and stops."""
    server_gpus: Positive = 1
    """GPUs of resources.train.gpus that the server takes, one copy of the model over all of them (tensor parallel)."""
    server_gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of its GPUs' memory that the server may take."""
    server_start_s: Positive = 900
    """How long the server may take to start."""
    colocate_tensor_parallel_size: Positive = 1
    """Training processes whose GPUs hold one copy of vLLM's model together (rollouts: colocate)."""


def training_processes(study: Study) -> int:
    """Processes that train, one per GPU: all of `resources.train.gpus` but those of the rollout server."""
    gpus = max(1, study.resources.train.gpus)
    return gpus - study.parallel.server_gpus if has_server(study) else gpus


def has_server(study: Study) -> bool:
    """True where rollouts come from a vLLM server on GPUs of its own."""
    return study.parallel.rollouts == "server"


def passes_per_process(passes: int, processes: int) -> int:
    """Share of one process in the passes of a step. Raises InputError where they cannot be shared evenly."""
    if passes % processes:
        raise InputError(
            f"train.gradient_accumulation_steps = {passes} passes of a step cannot be shared among {processes} "
            "training processes",
            "make it a multiple of their number; more passes of fewer completions "
            "(train.per_device_train_batch_size) are the same step",
        )
    return passes // processes


def check_parallel(study: Study) -> None:
    """Raise ValueError for a study whose GPUs cannot be used as its section `parallel` says."""
    parallel, train, gpus = study.parallel, study.train, study.resources.train.gpus
    if has_server(study):
        if train.rollout_engine != "vllm":
            raise ValueError("parallel.rollouts: server needs train.rollout_engine: vllm")
        if gpus <= parallel.server_gpus:
            raise ValueError(
                f"parallel.server_gpus = {parallel.server_gpus} leaves nothing of resources.train.gpus = {gpus}"
            )
        if train.lora is not None and train.lora.quantized_base:
            raise ValueError("parallel.rollouts: server cannot be given the 4-bit base of train.lora.quantized_base")
    processes = training_processes(study)
    if parallel.sharding == "fsdp":
        if processes < 2:
            raise ValueError("parallel.sharding: fsdp needs at least two training GPUs (resources.train.gpus)")
        if train.lora is not None:
            raise ValueError(
                "parallel.sharding: fsdp and train.lora exclude each other: adapters cannot be merged into shards for "
                "the rollouts. With sharding: none each GPU holds the frozen model, in 4 bits with lora.quantized_base"
            )
    if processes % parallel.colocate_tensor_parallel_size:
        raise ValueError(
            f"parallel.colocate_tensor_parallel_size = {parallel.colocate_tensor_parallel_size} does not divide the "
            f"{processes} training processes"
        )
    try:
        passes_per_process(train.gradient_accumulation_steps, processes)
    except InputError as error:
        raise ValueError(f"{error.what}; {error.hint}") from None
    tensor_parallel, there = study.evaluate.vllm.tensor_parallel_size, study.resources.evaluate.gpus
    if study.evaluate.engine == "vllm" and 0 < there < tensor_parallel:
        raise ValueError(
            f"evaluate.vllm.tensor_parallel_size = {tensor_parallel} is more than resources.evaluate.gpus = {there}"
        )

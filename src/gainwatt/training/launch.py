"""Start a training on several GPUs: one process per GPU under `accelerate launch`, and the rollout server beside them.

The training script calls this on itself, so that one command does the same by hand, in the workflow and on a cluster.
A script that finds WORLD_SIZE set was started by a launcher already, and trains.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json, write_text
from gainwatt.energy.processes import LAUNCHED_VARIABLE
from gainwatt.energy.select import METERED_VARIABLE
from gainwatt.errors import InputError, UnavailableError
from gainwatt.study import Study
from gainwatt.study.parallel import has_server, training_processes
from gainwatt.training import rollout_server
from gainwatt.training.children import Child

_POLL_S = 0.5


@dataclass(frozen=True)
class Plan:
    """Which GPUs train and which make rollouts, by the names that CUDA_VISIBLE_DEVICES gives them."""

    training: list[str]
    server: list[str]


def plan(study: Study, environ: Mapping[str, str]) -> Plan | None:
    """The GPUs of a training that is still to be launched; None where this process itself is to train.

    Raises InputError where fewer GPUs are visible than the study asks for, UnavailableError where there is no driver.
    """
    wanted = study.resources.train.gpus
    if wanted <= 1 or "WORLD_SIZE" in environ or LAUNCHED_VARIABLE in environ:
        return None
    from gainwatt.lease import gpus_of_machine

    visible = list(gpus_of_machine(environ).values())
    if len(visible) < wanted:
        raise InputError(
            f"resources.train.gpus = {wanted}, and this process may use {len(visible)} GPUs ({', '.join(visible)})",
            "lower it in the study, or make more of them visible (CUDA_VISIBLE_DEVICES)",
        )
    processes = training_processes(study)
    return Plan(visible[:processes], visible[processes:wanted])


def accelerate_config(study: Study, processes: int) -> dict[str, Any]:
    """accelerate's configuration of the study on one machine (its keys: `accelerate config`, version 1.15)."""
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE", "debug": False, "distributed_type": "MULTI_GPU",
        "downcast_bf16": "no", "enable_cpu_affinity": False, "gpu_ids": "all", "machine_rank": 0,
        "main_process_port": 0,  # a free one: two trainings may share a machine
        "main_training_function": "main",
        "mixed_precision": "no" if study.train.precision == "fp32" else study.train.precision,
        "num_machines": 1, "num_processes": processes, "rdzv_backend": "static", "same_network": True, "use_cpu": False,
    }  # fmt: skip
    if study.parallel.sharding == "fsdp":
        config["distributed_type"] = "FSDP"
        config["fsdp_config"] = fsdp_config()
    return config


def fsdp_config() -> dict[str, Any]:
    """Full sharding: each block of the transformer is gathered when it computes, and given back after it.

    Checkpoints for resuming are written shard by shard, so that no process ever holds the whole optimizer state; the
    weights are read by the first process alone. Activations are recomputed, where the study says so, by the model
    itself (train.gradient_checkpointing), as without sharding.
    """
    return {
        "fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT", "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_offload_params": False, "fsdp_activation_checkpointing": False,
    }  # fmt: skip


def training_command(study: Study, config: Path, words: list[str], processes: int) -> list[str]:
    """The script, under `accelerate launch` where several processes train."""
    if processes == 1:
        return [sys.executable, *words]
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *words]


def training_environment(found: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """The training processes' environment: their GPUs, all GPUs of the job for the meter, and whose job they are."""
    return {
        **environ, "CUDA_VISIBLE_DEVICES": ",".join(found.training),
        METERED_VARIABLE: ",".join([*found.training, *found.server]), LAUNCHED_VARIABLE: str(os.getpid()),
    }  # fmt: skip


def run(study: Study, found: Plan, *, model: Path, log: Path, environ: Mapping[str, str]) -> int:
    """Start server and training, wait for the training, and end both. Returns the training's exit status.

    `log` is the file beside which the server's own log and accelerate's configuration are written. Raises MemoryError
    or UnavailableError where the server, or a training process other than the first, says that this is the result.
    """
    for left in log.parent.glob(note_file(log, "*").name):
        left.unlink()
    status = _started(study, found, model, log, environ)
    return status and _result(log, status)


def _started(study: Study, found: Plan, model: Path, log: Path, environ: Mapping[str, str]) -> int:
    if "CUDA_VISIBLE_DEVICES" not in environ:
        # The plan's numbers are the driver's; CUDA by itself counts the fastest GPU first.
        environ = {**environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    config = log.with_suffix(".accelerate.json")
    write_text(config, json.dumps(accelerate_config(study, len(found.training)), indent=1) + "\n")
    words = training_command(study, config, sys.argv, len(found.training))
    environment = training_environment(found, environ)
    if not has_server(study):
        return _watch(Child(words, environment), None)
    port, group_port = rollout_server.free_ports(2)
    server_words = rollout_server.command(study, sys.executable, model, port)
    server_environment = rollout_server.environment(found.server, environ)
    print(f"rollout server on GPU {', '.join(found.server)}, port {port}", file=sys.stderr, flush=True)
    server = rollout_server.RolloutServer(server_words, server_environment, log.with_suffix(".vllm.log"), port=port)
    with server:
        server.wait_until_healthy(study.parallel.server_start_s)
        return _watch(Child(words, environment | rollout_server.trainer_variables(port, group_port)), server)


def _watch(training: Child, server: rollout_server.RolloutServer | None) -> int:
    """Wait for the training; end it where the server ends before it, which it would wait for in vain."""
    try:
        while (status := training.status()) is None:
            if server is not None:
                server.check()
            time.sleep(_POLL_S)
        return status
    finally:
        training.end()


def note_file(log: Path, rank: str) -> Path:
    """Where a training process says which result it has ended with."""
    return log.with_suffix(f".rank{rank}.json")


def note_result(log: Path, rank: str, status: str, reason: str) -> None:
    """Tell the process that has started this one of a result (`oom`, `unavailable`); the first process notes it last.

    A process that ends so leaves the others waiting for it: it must exit with a failure, upon which the launcher ends
    them all, and no exit status can say that this was a result.
    """
    write_json(note_file(log, rank), {"status": status, "reason": reason})


def _result(log: Path, status: int) -> int:
    """0 where the first process has written a result, else `status`. Raises as `run` for that of another process."""
    if note_file(log, "0").exists():
        return 0
    for path in sorted(log.parent.glob(note_file(log, "*").name)):
        noted = json.loads(path.read_text(encoding="utf-8"))
        raise (MemoryError if noted["status"] == "oom" else UnavailableError)(noted["reason"])
    return status

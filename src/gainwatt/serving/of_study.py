"""A server for a checkpoint of a study: what the study says of the model holds for the server too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme
from gainwatt.serving.spec import ServerSpec
from gainwatt.study import DENSE, Study
from gainwatt.workflow import find_interpreter


def spec_of(study: Study, checkpoint: Checkpoint, scheme: str, engine: str, **changes: Any) -> ServerSpec:
    """The server of one cell: type, trust, seed, memory and interpreter by the study; `changes` that are not None win.

    Raises InputError where the checkpoint is not of that scheme, and what ServerSpec raises.
    """
    check_scheme(checkpoint, scheme)
    loader = get_scheme(scheme).loader(engine)
    environment = loader.environment if loader else "core"
    vllm = study.evaluate.vllm
    limits: dict[str, Any] = {"max_num_seqs": study.evaluate.batch_size} if engine == "transformers" else {}
    if engine == "vllm":
        limits = {
            "max_num_seqs": vllm.max_num_seqs,
            "memory_fraction": vllm.gpu_memory_utilization,
            "tensor_parallel": vllm.tensor_parallel_size,
            "enforce_eager": vllm.enforce_eager,
            "seed": vllm.seed,
        }
    values: dict[str, Any] = {
        "dtype": study.model.dtype,
        "trust_remote_code": study.model.trust_remote_code,
        "python": None if environment == "core" else find_interpreter(study, environment),
        "name": f"{checkpoint.variant}.{scheme}",
        **limits,
        **{name: value for name, value in changes.items() if value is not None},
    }
    return ServerSpec(Path(checkpoint.folder), scheme, engine, **values)


def check_scheme(checkpoint: Checkpoint, scheme: str) -> None:
    """Raise InputError where `checkpoint` is stored by another scheme: it would be served under a wrong name."""
    wanted = DENSE if get_scheme(scheme).dense else scheme
    if checkpoint.scheme != wanted:
        raise InputError(
            f"the checkpoint in {checkpoint.folder} is of the scheme {checkpoint.scheme}, not {wanted}",
            "name its own scheme, or give another checkpoint",
        )

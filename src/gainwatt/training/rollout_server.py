"""vLLM as a server that makes the rollouts of a training, on GPUs of its own.

The command is what `trl vllm-serve` of TRL 1.16 runs: vLLM's own server, with the engine that takes new weights over
NCCL, log-probabilities as sampled, and vLLM's development endpoints, through which the weights come. These endpoints
let anybody who reaches them change the model, so that the server listens on this machine alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from gainwatt.engines import vllm_log
from gainwatt.engines.base import EngineError
from gainwatt.errors import UnavailableError
from gainwatt.study import Study
from gainwatt.study.sections import Train
from gainwatt.training.children import Child

HOST = "127.0.0.1"
URL_VARIABLE = "GAINWATT_ROLLOUT_SERVER"
GROUP_PORT_VARIABLE = "GAINWATT_ROLLOUT_GROUP_PORT"
_POLL_S = 1.0


def longest(train: Train) -> int:
    """Tokens of the longest prompt and completion that vLLM makes room for."""
    return train.vllm_max_model_tokens or train.max_prompt_tokens + train.max_completion_tokens


def command(study: Study, python: str, folder: Path, port: int) -> list[str]:
    """The command line of the server for the model in `folder`."""
    parallel = study.parallel
    words = [python, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--host", HOST, "--port", str(port)]
    words += ["--tensor-parallel-size", str(parallel.server_gpus)]
    words += ["--gpu-memory-utilization", str(parallel.server_gpu_memory_utilization)]
    words += ["--max-model-len", str(longest(study.train)), "--uvicorn-log-level", "warning"]
    words += ["--weight-transfer-config", json.dumps({"backend": "nccl"})]
    words += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"]
    return words + (["--trust-remote-code"] if study.model.trust_remote_code else [])


def environment(gpus: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: its own GPUs, and the endpoints through which it is given weights."""
    return {
        **environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus), "VLLM_SERVER_DEV_MODE": "1", "VLLM_HOST_IP": HOST,
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


class RolloutServer:
    """A running server. Use it with `with`; `check` raises once it has ended by itself."""

    def __init__(self, words: list[str], environ: Mapping[str, str], log: Path, *, port: int) -> None:
        self.log, self.port = log, port
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as handle:
            self.child = Child(words, environ, handle)

    def __enter__(self) -> RolloutServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.end()

    def wait_until_healthy(self, seconds: float) -> None:
        """Return once the server answers.

        Raises MemoryError where memory did not suffice, UnavailableError where vLLM is not installed, and EngineError
        where the server ended otherwise or has not answered in time.
        """
        deadline = time.monotonic() + seconds
        while not self._healthy():
            self.check()
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the rollout server has not answered for {seconds:.0f} s",
                    f"its messages stand in {self.log}; raise parallel.server_start_s where it was still loading",
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise as `wait_until_healthy` does where the server has ended."""
        status = self.child.status()
        if status is None:
            return
        lines = self.log.read_text("utf-8", "replace").splitlines()
        memory = vllm_log.lack_of_memory(lines)
        if memory is not None:
            raise MemoryError(f"the rollout server had too little memory: {memory}")
        if any("No module named" in line and "vllm" in line for line in lines[-3:]):
            raise UnavailableError(
                f"vLLM cannot be imported: {lines[-1]}", "make env NAME=vllm, and set resources.train.environment: vllm"
            )
        why = vllm_log.last_error(lines) or (lines[-1] if lines else "it said nothing")
        raise EngineError(f"the rollout server ended with status {status}: {why}", f"its messages stand in {self.log}")

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            # No proxy: the server is on this machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://{HOST}:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        return False


def trainer_variables(port: int, group_port: int) -> dict[str, str]:
    """What tells the training processes where the server is."""
    return {
        URL_VARIABLE: f"http://{HOST}:{port}", GROUP_PORT_VARIABLE: str(group_port), "VLLM_HOST_IP": HOST,
        # The client asks the server by requests, which a proxy of the cluster would not reach.
        "no_proxy": ",".join(filter(None, [os.environ.get("no_proxy"), HOST])),
    }  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the system hands out by itself."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 30000)  # noqa: S311 - to keep out of the way of others
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found += [] if port in found else [port]
    return found

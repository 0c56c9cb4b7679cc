"""vLLM's own server (`vllm.entrypoints.openai.api_server`), and what it tells in its log and its counters."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.engines import vllm_log
from gainwatt.engines.vllm import DTYPES
from gainwatt.errors import GainwattError, InputError, UnavailableError
from gainwatt.serving.adapters import vllm_memory
from gainwatt.serving.adapters.base import Address, Start, interpreter_with
from gainwatt.serving.ask import ask, ask_json, counters
from gainwatt.serving.spec import ServerSpec, is_loopback

NOT_MARLIN = "MacheteLinearKernel,CutlassW4A8LinearKernel,AllSparkLinearKernel"
"""Kernels that vLLM prefers to Marlin where the GPU has them; left out where Marlin is asked for."""
NOT_PLAIN = f"{NOT_MARLIN},MarlinLinearKernel"
"""Left out where AWQ's own GEMM is asked for. The plugin alone would choose it, but vLLM keeps what it compiled under a
name made of such variables and not of plugins, and would run a graph that it compiled for another kernel."""
_QUERIES, _HITS = "vllm:prefix_cache_queries", "vllm:prefix_cache_hits"


class VllmAdapter:
    """See `gainwatt.serving.adapters.base.Adapter`."""

    def start(self, spec: ServerSpec, port: int, work: Path) -> Start:
        """The command line; the API key goes through VLLM_API_KEY, so that no list of processes shows it."""
        python = interpreter_with("vllm", spec, "vllm")
        command = [
            python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(spec.checkpoint.resolve()),
            "--served-model-name", spec.model, "--host", spec.host, "--port", str(port),
            "--dtype", DTYPES[spec.compute_dtype], "--seed", str(spec.seed),
            "--tensor-parallel-size", str(spec.tensor_parallel),
            # The checkpoint's own sampling fields stay out: what a request does not say is neutral.
            "--generation-config", "vllm",
            "--enable-prefix-caching" if spec.prefix_cache else "--no-enable-prefix-caching",
            # No page in a browser may use the server, and it shows no pages itself.
            "--allowed-origins", "[]", "--disable-fastapi-docs", "--disable-uvicorn-access-log",
        ]  # fmt: skip
        for option, value in (
            ("--max-model-len", spec.max_model_len), ("--max-num-seqs", spec.max_num_seqs),
            ("--gpu-memory-utilization", spec.memory_fraction), ("--quantization", spec.quantization),
        ):  # fmt: skip
            command += [option, str(value)] if value is not None else []
        command += ["--enforce-eager"] if spec.enforce_eager else []
        command += ["--trust-remote-code"] if spec.trust_remote_code else []
        environment = {
            "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_LOGGING_CONFIG_PATH": str(_logging_config(work)),
        }  # fmt: skip
        if spec.api_key:
            environment["VLLM_API_KEY"] = spec.api_key
        if spec.quantization is not None:
            others = os.environ.get("VLLM_DISABLED_KERNELS")
            left_out = NOT_PLAIN if spec.quantization == "awq" else NOT_MARLIN
            environment["VLLM_DISABLED_KERNELS"] = ",".join(filter(None, [others, left_out]))
        if spec.prefix_cache and is_loopback(spec.host):
            environment["VLLM_SERVER_DEV_MODE"] = "1"  # offers /reset_prefix_cache, which asks for no key
        paths = [str(_plain_awq_plugin(work))] if spec.quantization == "awq" else []
        return Start([*command, *spec.options], environment, python_path=paths)

    def facts(self, spec: ServerSpec, lines: Sequence[str], address: Address) -> dict[str, Any]:
        """Kernels and memory from the log, the version from the server."""
        logged = vllm_log.facts(lines)
        version = ask_json(f"{address.root}/version")
        found: dict[str, Any] = {
            "engine_version": version.get("version") if isinstance(version, dict) else None,
            "quantization": vllm_memory.quantization(lines),
            "quantization_kernel": logged["kernels"],
            "attention_backend": logged["attention_backend"],
            "max_num_seqs": spec.max_num_seqs,
            "null_reasons": {"max_num_seqs": "vLLM's own choice for the GPU, which its log does not tell"},
            **vllm_memory.graphs(lines, eager=spec.enforce_eager),
        }
        memory = vllm_memory.memory(lines)
        reasons = found["null_reasons"] | memory.pop("null_reasons")
        _pool_by_tokens(spec, memory)
        if spec.stored.dense:
            reasons["quantization"] = reasons["quantization_kernel"] = "the scheme is not quantized"
        elif spec.stored.kind == "bitsandbytes":
            reasons["quantization_kernel"] = "vLLM's log names none; its layers are BitsAndBytesLinearMethod"
        if spec.quantization is not None:
            found["quantization_as_asked"] = _as_asked(spec.quantization, logged["kernels"])
        return found | memory | {"null_reasons": reasons}

    def failure(self, lines: Sequence[str]) -> Exception | None:
        """Lack of memory, a quantization that this vLLM does not know, or its last exception."""
        memory = vllm_log.lack_of_memory(lines)
        if memory is not None:
            return MemoryError(f"vLLM did not start: {memory}")
        said = vllm_log.last_error(lines)
        if said is None or any("address already in use" in line.lower() for line in lines[-200:]):
            return None
        tail = "\n    ".join(lines[-12:])
        if "No module named" in said or "Unknown quantization method" in "".join(lines):
            return UnavailableError(f"vLLM cannot serve this here: {said}", "make env NAME=vllm; see envs/vllm.txt")
        return InputError(f"vLLM did not start: {said}; the end of its log:\n    {tail}", "see the whole log")

    def prefix_hits(self, address: Address) -> dict[str, int] | None:
        """Prompt tokens, from the counters that vLLM offers to Prometheus."""
        try:
            status, page = ask(f"{address.root}/metrics", address.headers)
        except OSError:
            return None
        found = {name.removesuffix("_total"): value for name, value in counters(page.decode()).items()}
        if status != 200 or _QUERIES not in found or _HITS not in found:
            return None
        return {"queries": int(found[_QUERIES]), "hits": int(found[_HITS])}

    def reset_prefix_cache(self, spec: ServerSpec, address: Address) -> bool:
        """Asks the server where it keeps a cache. It offers that only to this machine."""
        if not spec.prefix_cache:
            return True
        try:
            return ask(f"{address.root}/reset_prefix_cache", address.headers, method="POST", timeout_s=30)[0] == 200
        except OSError:
            return False


def _pool_by_tokens(spec: ServerSpec, found: dict[str, Any]) -> None:
    """Where the log tells the pool's tokens only (on a CPU), its size follows from the model's shape."""
    if found["memory_mib"]["kv_cache"] is not None or found["kv_cache_tokens"] is None:
        return
    from gainwatt.limits.shape import ModelShape

    try:
        shape = ModelShape.from_checkpoint(spec.checkpoint)
    except GainwattError:
        return
    per_token = shape.kv_bytes_per_token(4 if spec.compute_dtype == "fp32" else 2)
    found["memory_mib"]["kv_cache"] = found["kv_cache_tokens"] * per_token / 2**20 / spec.tensor_parallel
    found["how"]["memory_mib.kv_cache"] = "tokens of the pool times the bytes of a token's keys and values"


def _as_asked(quantization: str, kernels: dict[str, str] | None) -> bool | None:
    """Whether the kernel that was asked for is the one that runs; None where the log names none."""
    if not kernels:
        return None
    wanted = "Marlin" if quantization == "awq_marlin" else "AwqGemm"
    return all(wanted in kernel for kernel in kernels.values())


def _logging_config(work: Path) -> Path:
    """vLLM's usual log, and from the worker also its account of the memory, which is a debugging message."""
    place = {"class": "vllm.logging_utils.NewLineFormatter", "datefmt": "%m-%d %H:%M:%S",
             "format": "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s"}  # fmt: skip
    handler = {"class": "logging.StreamHandler", "formatter": "vllm", "level": "DEBUG", "stream": "ext://sys.stderr"}
    path = work / "logging.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"vllm": place},
                "handlers": {"vllm": handler},
                "loggers": {
                    "vllm": {"handlers": ["vllm"], "level": "INFO", "propagate": False},
                    "vllm.v1.worker.gpu_worker": {"level": "DEBUG"},
                    "uvicorn": {"handlers": ["vllm"], "level": "WARNING", "propagate": False},
                },
            }
        ),
        encoding="utf-8",
    )
    return path


def _plain_awq_plugin(work: Path) -> Path:
    """A folder that announces `vllm_plain_awq.register` as a plugin of vLLM."""
    about = work / "plugins" / "gainwatt_plain_awq-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gainwatt-plain-awq\nVersion: 1\n", encoding="utf-8")
    entry = "[vllm.general_plugins]\ngainwatt_plain_awq = gainwatt.serving.adapters.vllm_plain_awq:register\n"
    (about / "entry_points.txt").write_text(entry, encoding="utf-8")
    return about.parent

"""llama.cpp as a server: its own `llama-server` where it is installed, else the server of llama-cpp-python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gainwatt
from gainwatt.engines.llamacpp import FILE
from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving.adapters.base import Address, Start, has_package, interpreter_with
from gainwatt.serving.ask import ask_json
from gainwatt.serving.spec import ServerSpec

DEFAULT_CONTEXT = 2048
_NEEDS = ("uvicorn", "fastapi", "sse_starlette", "starlette_context", "pydantic_settings")
_MIB = r"([0-9.]+) MiB"
_WEIGHTS = re.compile(rf"model buffer size\s*=\s*{_MIB}")
_CACHE = re.compile(rf"KV buffer size\s*=\s*{_MIB}")
_COMPUTE = re.compile(rf"compute buffer size\s*=\s*{_MIB}")
_BUILD = re.compile(r"build:? (\d+)")
_ERROR = re.compile(r"(?:error loading model|failed to load model|ValueError:|error:)\s*(.+)", re.IGNORECASE)


class LlamaCppAdapter:
    """See `gainwatt.serving.adapters.base.Adapter`."""

    def start(self, spec: ServerSpec, port: int, work: Path) -> Start:
        """The command line of the server that is there. A key goes through a file that only this user can read.

        Raises UnavailableError where there is no server, InputError where the checkpoint holds no GGUF file.
        """
        binary = shutil.which("llama-server")
        if binary is not None:
            return _of_binary(spec, binary, _gguf(spec, work), port, work)
        python = interpreter_with("llama_cpp", spec, "llamacpp")
        lacking = [package for package in _NEEDS if not has_package(python, package)]
        if lacking:
            raise UnavailableError(
                f"there is no llama-server on the PATH, and {python} lacks {', '.join(lacking)} for the server of "
                "llama-cpp-python",
                "install llama.cpp's llama-server, or pip install 'llama-cpp-python[server]' into that environment",
            )
        return _of_package(spec, python, _gguf(spec, work), port, work)

    def facts(self, spec: ServerSpec, lines: Sequence[str], address: Address) -> dict[str, Any]:
        """Buffers as llama.cpp's log counts them."""
        props = ask_json(f"{address.root}/props", address.headers)
        build = props.get("build_info") if isinstance(props, dict) else None
        memory = {
            "weights": _sum(_WEIGHTS, lines),
            "kv_cache": _sum(_CACHE, lines),
            "activations": _sum(_COMPUTE, lines),
        }
        known = [part for part in memory.values() if part is not None]
        reserved = sum(known) if len(known) == len(memory) else None
        # llama-cpp-python's server has one slot, whatever was asked for.
        packaged = any("Uvicorn running" in line for line in lines)
        parallel = 1 if packaged else spec.max_num_seqs or 1
        context = spec.max_model_len or DEFAULT_CONTEXT
        return {
            "engine_version": build
            or next((f"llama.cpp {found[1]}" for x in lines if (found := _BUILD.search(x))), None),
            "quantization": spec.stored.options.get("block_type"),
            "quantization_kernel": {"llama.cpp": (spec.stored.loader("llamacpp") or spec.stored.loaders[0]).kernel},
            # llama-cpp-python keeps what a prompt shares with the one before it, and cannot be told not to.
            "prefix_cache": spec.prefix_cache or packaged,
            "cuda_graphs": None,
            "max_model_len": context,
            "max_num_seqs": parallel,
            "max_concurrency": float(parallel),
            "kv_cache_tokens": context * parallel,
            "memory_mib": {**memory, "reserved": reserved},
            "how": {"memory_mib.reserved": "the sum of the buffers: llama.cpp allocates them at the start"},
            "null_reasons": {"quantization": "the scheme is not quantized"} if spec.stored.dense else {},
        }

    def failure(self, lines: Sequence[str]) -> Exception | None:
        """A model that cannot be loaded."""
        said = [found[1] for line in lines if "load" in line.lower() and (found := _ERROR.search(line))]
        return InputError(f"llama.cpp did not start: {said[-1]}", "make the checkpoint again") if said else None

    def prefix_hits(self, address: Address) -> dict[str, int] | None:
        """llama.cpp does not count them."""
        return None

    def reset_prefix_cache(self, spec: ServerSpec, address: Address) -> bool:
        """Nothing can be asked to forget. llama-server, which alone has the page /props, is started without a cache."""
        return not spec.prefix_cache and isinstance(ask_json(f"{address.root}/props", address.headers), dict)


def _gguf(spec: ServerSpec, work: Path) -> Path:
    """The checkpoint's GGUF file; an unquantized checkpoint is written as one first."""
    file = spec.checkpoint / FILE
    if spec.stored.dense:
        file = work / FILE
        _write_gguf(spec, file)
    if not file.is_file():
        raise InputError(f"{spec.checkpoint} holds no {FILE}", "quantize the checkpoint with a gguf scheme")
    return file.resolve()


def _write_gguf(spec: ServerSpec, file: Path) -> None:
    """In the interpreter that has the package gguf: a script that starts a server need not be it."""
    python = interpreter_with("gguf", spec, "llamacpp")
    code = (
        "import pathlib, sys; from gainwatt.quantization.gguf_write import write_gguf; "
        "write_gguf(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pre_tokenizer='qwen2', dtype=sys.argv[3])"
    )
    source = str(Path(gainwatt.__file__).parents[1])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [python, "-c", code, str(spec.checkpoint.resolve()), str(file), spec.compute_dtype],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise InputError(
            f"cannot write {spec.checkpoint} as GGUF: {said[-1] if said else done.returncode}",
            "llama.cpp serves models whose tensors it knows; quantize it with a gguf scheme to see more",
        )


def _of_binary(spec: ServerSpec, binary: str, file: Path, port: int, work: Path) -> Start:
    parallel = spec.max_num_seqs or 1
    context = (spec.max_model_len or DEFAULT_CONTEXT) * parallel  # llama-server divides it among the slots
    command = [
        binary, "--model", str(file), "--alias", spec.model, "--host", spec.host, "--port", str(port),
        "--ctx-size", str(context), "--parallel", str(parallel), "--seed", str(spec.seed), "--no-webui",
        "--n-gpu-layers", "999",
    ]  # fmt: skip
    if not spec.prefix_cache:
        command += ["--no-cache-prompt"]
    if spec.api_key:
        command += ["--api-key-file", str(_private(work / "key", spec.api_key + "\n"))]
    return Start([*command, *spec.options])


def _of_package(spec: ServerSpec, python: str, file: Path, port: int, work: Path) -> Start:
    model = {
        "model": str(file), "model_alias": spec.model, "n_ctx": spec.max_model_len or DEFAULT_CONTEXT,
        "n_gpu_layers": -1, "seed": spec.seed, "verbose": True, "cache": False,
    }  # fmt: skip
    content = {"host": spec.host, "port": port, "models": [model], "interrupt_requests": False}
    if spec.api_key:
        content["api_key"] = spec.api_key
    config = _private(work / "llama.json", json.dumps(content))
    command = [python, "-m", "llama_cpp.server", "--config_file", str(config), *spec.options]
    return Start(command, health="/docs")


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _sum(pattern: re.Pattern[str], lines: Sequence[str]) -> float | None:
    found = [float(match[1]) for line in lines if (match := pattern.search(line))]
    return sum(found) if found else None

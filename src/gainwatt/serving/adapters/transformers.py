"""The transformers engine as a server: `gainwatt.serving.local`, in the environment that loads the scheme."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt import errors
from gainwatt.serving.adapters.base import Address, Start, interpreter_with
from gainwatt.serving.ask import ask_json
from gainwatt.serving.local.__main__ import ERROR_MARK, KEY_VARIABLE
from gainwatt.serving.spec import ServerSpec


class TransformersAdapter:
    """See `gainwatt.serving.adapters.base.Adapter`."""

    def start(self, spec: ServerSpec, port: int, work: Path) -> Start:
        """The module's command line; the key goes through the environment."""
        loader = spec.stored.loader("transformers")
        environment = loader.environment if loader else "core"
        package = "awq" if environment == "autoawq" else "transformers"
        command = [
            interpreter_with(package, spec, environment), "-m", "gainwatt.serving.local",
            "--folder", str(spec.checkpoint.resolve()), "--scheme", spec.scheme, "--dtype", spec.compute_dtype,
            "--model-name", spec.model, "--host", spec.host, "--port", str(port),
        ]  # fmt: skip
        if spec.max_model_len is not None:
            command += ["--max-model-len", str(spec.max_model_len)]
        if spec.max_num_seqs is not None:
            command += ["--max-num-seqs", str(spec.max_num_seqs)]
        if spec.trust_remote_code:
            command.append("--trust-remote-code")
        secret = {KEY_VARIABLE: spec.api_key} if spec.api_key else {}
        return Start([*command, *spec.options], {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **secret})

    def facts(self, spec: ServerSpec, lines: Sequence[str], address: Address) -> dict[str, Any]:
        """As the server tells them now."""
        told = ask_json(f"{address.root}/gainwatt/facts", address.headers)
        found: dict[str, Any] = told if isinstance(told, dict) else {"events": ["the server did not answer"]}
        found.setdefault("null_reasons", {})
        if spec.stored.dense:
            found["null_reasons"]["quantization"] = "the scheme is not quantized"
        else:
            found["quantization"] = spec.stored.kind
        return found

    def failure(self, lines: Sequence[str]) -> Exception | None:
        """What the server said of itself before it ended."""
        told = [line.partition(ERROR_MARK)[2] for line in lines if ERROR_MARK in line]
        if not told:
            return None
        try:
            said = json.loads(told[-1])
            kind, what, hint = said["kind"], said["what"], said["hint"]
        except (ValueError, KeyError, TypeError):
            return None
        if kind == "MemoryError":
            return MemoryError(f"the server ran out of memory: {what}")
        found = getattr(errors, kind, errors.InputError)
        made: Exception = found(what, hint)
        return made

    def prefix_hits(self, address: Address) -> dict[str, int] | None:
        """None are looked up: this server keeps nothing of earlier prompts."""
        return {"queries": 0, "hits": 0}

    def reset_prefix_cache(self, spec: ServerSpec, address: Address) -> bool:
        """There is nothing to forget."""
        return True

"""What a server needs to know of an engine."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gainwatt.errors import UnavailableError
from gainwatt.serving.spec import ServerSpec

MEMORY_PARTS = ("weights", "kv_cache", "activations", "reserved")
FACTS = (
    "engine_version", "quantization", "quantization_kernel", "attention_backend", "cuda_graphs", "max_model_len",
    "max_num_seqs", "max_concurrency", "kv_cache_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A server's command line, what is added to its environment and PYTHONPATH, and the page that says it is ready.

    No secret stands in `command`: every user of the machine may read it.
    """

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    health: str = "/health"
    python_path: Sequence[str] = ()


@dataclass(frozen=True)
class Address:
    """Where a running server answers: the root without /v1, and the headers that it wants."""

    root: str
    headers: dict[str, str]


class Adapter(Protocol):
    """One engine. None of the methods changes anything but the files under `work`."""

    def start(self, spec: ServerSpec, port: int, work: Path) -> Start:
        """How the server is started; `work` is a folder that lives as long as it does.

        Raises UnavailableError where the engine is not installed.
        """
        ...

    def facts(self, spec: ServerSpec, lines: Sequence[str], address: Address) -> dict[str, Any]:
        """What the server says of itself: see `gainwatt.serving.facts.complete`."""
        ...

    def failure(self, lines: Sequence[str]) -> Exception | None:
        """The error that the log of a server that did not start names; None where it names none."""
        ...

    def prefix_hits(self, address: Address) -> dict[str, int] | None:
        """Prompt tokens looked up in a cache of earlier prompts, and those found there; None where nobody knows."""
        ...

    def reset_prefix_cache(self, spec: ServerSpec, address: Address) -> bool:
        """Forget earlier prompts. True where none of them is remembered now."""
        ...


def interpreter_with(package: str, spec: ServerSpec, environment: str) -> str:
    """The python that runs an engine: the spec's own, this one where it has `package`, or .envs/ENVIRONMENT.

    Raises UnavailableError where none of them has the package.
    """
    pinned = Path(".envs") / environment / "bin" / "python"
    candidates = [spec.python] if spec.python is not None else [sys.executable, str(pinned)]
    for python in candidates:
        if has_package(python, package):
            return python
    raise UnavailableError(
        f"no interpreter with {package}: tried {' and '.join(candidates)}",
        f"make env NAME={environment}, or name an interpreter: environments in the study, --python here",
    )


@functools.cache
def has_package(python: str, package: str) -> bool:
    """Whether the interpreter `python` runs and finds `package`; nothing of it is imported."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, timeout=120, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False

"""What a record says about the machine: read from the machine, never typed."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "llmcompressor",
    "compressed-tensors", "vllm", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow", "nvidia-ml-py",
    "snakemake", "autoawq", "llama_cpp_python", "gguf",
)  # fmt: skip


def capture() -> dict[str, Any]:
    """Python, platform, CPU, memory, GPUs with driver and limits, package versions, the code's git commit."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "memory_mib": _memory_mib(),
        "gpus": _gpus(),
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "packages": _versions(),
        "pins": pins(),
        "git": _git(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def pins(prefix: Path | None = None) -> dict[str, Any]:
    """Which pinned file this environment was made from, and the packages whose versions are no longer the file's.

    `file` is null outside of .envs/NAME. A package that the file pins and that is not installed has null for its
    version. Marks of a local build (`+cpu`) do not count.
    """
    prefix = Path(sys.prefix) if prefix is None else prefix
    file = prefix.parent.parent / "envs" / f"{prefix.name}.txt"
    if prefix.parent.name != ".envs" or not file.is_file():
        return {"file": None, "differing": {}}
    differing = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, pinned, version = line.partition("#")[0].partition(";")[0].strip().partition("==")
        if pinned and "[" not in name:
            installed = _version(name.strip(), prefix)
            if installed is None or installed.partition("+")[0] != version.strip().partition("+")[0]:
                differing[name.strip()] = {"installed": installed, "pinned": version.strip()}
    return {"file": f"envs/{file.name}", "differing": differing}


def _version(name: str, prefix: Path) -> str | None:
    sites = [str(path) for path in prefix.glob("lib/python*/site-packages")]
    found = next(iter(metadata.Distribution.discover(name=name, path=sites)), None)
    return found.version if found else None


def _cpu_name() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError, AttributeError):
        return None


def _git() -> dict[str, Any]:
    """Commit of the code and whether files of it were changed since; nulls outside a git checkout."""
    here = Path(__file__).parent

    def ask(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "--", ":/")
    return {"commit": ask("rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}


def gpus_of(environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The GPUs that an environment lists; none where it has the reason instead why they could not be listed."""
    found = environment.get("gpus")
    return found if isinstance(found, list) else []


def _gpus() -> list[dict[str, Any]] | str:
    """One entry per GPU of the machine as NVML names it, or the reason why there is none."""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    try:
        driver = _ask(pynvml.nvmlSystemGetDriverVersion)
        return [_gpu(pynvml, index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _gpu(pynvml: Any, index: int, driver: str | None) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    limit = _ask(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
    return {
        "index": index,
        "name": _ask(pynvml.nvmlDeviceGetName, handle),
        "driver": driver,
        "memory_mib": memory.total // 2**20 if memory else None,
        "power_limit_w": limit / 1000 if limit is not None else None,
        "sm_clock_max_mhz": _ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, 1),
        "memory_clock_max_mhz": _ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, 2),
    }


def _ask(call: Any, *args: Any) -> Any:
    """One NVML answer, or None where the device does not give it."""
    import pynvml

    try:
        value = call(*args)
    except pynvml.NVMLError:
        return None
    return value.decode() if isinstance(value, bytes) else value

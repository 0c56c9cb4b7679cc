"""What must hold before a checkpoint is quantized; each check is an error before any work starts."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import Scheme

_PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "llmcompressor": "llmcompressor",
    "autoawq": "awq",
    "llamacpp": "llama_cpp",
}
_AUTOAWQ_ROWS = 64  # its search for a clipping range works on this many rows at a time
# On a CPU bitsandbytes 0.50.2 restores 4-bit weights with six times the error where this does not divide the width.
_BNB_CPU_WIDTH = 64
_BLOCKS = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.\d+\.")


def check_environment(scheme: Scheme) -> None:
    """Raise UnavailableError where the tool that makes the scheme is not installed for this interpreter."""
    package = _PACKAGES[scheme.kind]
    if importlib.util.find_spec(package) is None:
        name = scheme.environment
        raise UnavailableError(
            f"{scheme.name} is made with the package {package!r}, which this environment does not have",
            f"make env NAME={name}, then run the same command with .envs/{name}/bin/python; "
            "the workflow picks the environment by itself",
        )


def check_quantizable(checkpoint: Checkpoint, scheme: Scheme) -> None:
    """Raise InputError for an already quantized checkpoint, a layer that the scheme's groups do not divide, and a layer
    that is not stored as F32, BF16 or F16.
    """
    method = quantization_method(read_config(checkpoint.folder))
    if method is not None:
        raise InputError(
            f"the checkpoint in {checkpoint.folder} is already quantized ({method})",
            "give the unquantized checkpoint",
        )
    shapes = linear_shapes(checkpoint.folder)
    if scheme.whole_groups:
        _check_multiple(checkpoint, scheme, shapes, axis=1, of=scheme.group_size or 1, why="the scheme groups")
    if scheme.kind == "autoawq":
        _check_multiple(checkpoint, scheme, shapes, axis=0, of=_AUTOAWQ_ROWS, why="AutoAWQ's search takes")
    size = scheme.group_size
    if scheme.kind == "llamacpp" and size is not None and shapes and all(shape[1] % size for _, shape in shapes):
        raise InputError(
            f"{scheme.name} stores blocks of {size} weights, and no layer in {checkpoint.folder} has a width that is a "
            "multiple of that: llama.cpp would fall back to another format everywhere",
            "leave this scheme out of quantize.schemes for this model",
        )


def check_device(checkpoint: Checkpoint, scheme: Scheme, device: str, capability: tuple[int, int] | None) -> None:
    """Raise UnavailableError where `device` (cuda, cpu) of this compute capability cannot make or run the scheme."""
    if device == "cpu" and scheme.options.get("load_in_4bit"):
        for name, shape in linear_shapes(checkpoint.folder):
            if shape[1] % _BNB_CPU_WIDTH:
                raise UnavailableError(
                    f"on a CPU bitsandbytes restores {scheme.name} weights wrongly where the width is no multiple of "
                    f"{_BNB_CPU_WIDTH}, and {name} in {checkpoint.folder} is {shape[1]} wide",
                    "make and evaluate this scheme on a GPU",
                )
    needs = []
    for loader in scheme.loaders:
        if device == "cpu" and loader.cpu:
            return
        if device == "cuda" and (loader.capability is None or (capability or (0, 0)) >= loader.capability):
            return
        least = f"compute capability {'.'.join(map(str, loader.capability))}" if loader.capability else "any GPU"
        needs.append(f"{loader.engine}: {least}{' or a CPU' if loader.cpu else ''}")
    here = "a CPU" if device == "cpu" else f"a GPU of compute capability {'.'.join(map(str, capability or ()))}"
    raise UnavailableError(f"no engine runs {scheme.name} on {here}; {'; '.join(needs)}", "use another machine")


def _check_multiple(
    checkpoint: Checkpoint, scheme: Scheme, shapes: list[tuple[str, tuple[int, int]]], *, axis: int, of: int, why: str
) -> None:
    for name, shape in shapes:
        if shape[axis] % of:
            kind = ("output", "input")[axis]
            raise InputError(
                f"{scheme.name}: {why} {of} weights, and the {kind} width {shape[axis]} of {name} in "
                f"{checkpoint.folder} is no multiple of that",
                "leave this scheme out of quantize.schemes for this model",
            )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint. Raises InputError naming the file."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "give the folder of a saved model") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no JSON object", "give the folder of a saved model")
    return config


def quantization_method(config: dict[str, Any]) -> str | None:
    """How a configuration says that its checkpoint is quantized; None where it does not."""
    found = config.get("quantization_config")
    if found is None:
        return None
    return str(found.get("quant_method", "?")) if isinstance(found, dict) else str(found)


def check_finite(checkpoint: Checkpoint) -> None:
    """Raise InputError naming a tensor with a weight that is infinite or not a number. Reads the weights once.

    The tools quantize such a tensor without a word, and its error is no number.
    """
    from gainwatt.weights.tensors import is_finite, read_tensors

    for tensor in read_tensors(checkpoint.folder).values():
        if not is_finite(tensor):
            raise InputError(
                f"the tensor {tensor.name} in {tensor.path} holds a weight that is infinite or not a number",
                "the checkpoint is damaged or its training diverged: make it again",
            )


def linear_shapes(folder: Path) -> list[tuple[str, tuple[int, int]]]:
    """Name and shape (output, input width) of each 2-D weight inside the transformer blocks, from the headers alone.

    Raises InputError naming one that is not stored as F32, BF16 or F16.
    """
    from gainwatt.weights.tensors import read_tensors

    found = []
    for name, tensor in read_tensors(folder).items():
        if len(tensor.shape) == 2 and _BLOCKS.search(name) and name.endswith(".weight") and tensor.torch_name:
            found.append((name, (tensor.shape[0], tensor.shape[1])))
    return found

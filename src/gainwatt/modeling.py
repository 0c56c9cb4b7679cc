"""Loading tokenizers and models in the same way everywhere: local files, safetensors, the study's type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import Scheme

TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def torch_dtype(name: str) -> Any:
    """The torch type called fp32, bf16 or fp16."""
    import torch

    return getattr(torch, TORCH_NAMES[name])


def device() -> str:
    """`cuda` where torch sees a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint, padding on the left. Raises InputError naming the folder."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot load the tokenizer in {folder}: {error}", "check the checkpoint folder") from error
    if tokenizer.chat_template is None:
        raise InputError(
            f"the tokenizer in {folder} has no chat template",
            "use an instruction-tuned model, or add chat_template.jinja",
        )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(checkpoint: Checkpoint, scheme: Scheme, dtype: str, *, trust_remote_code: bool = False) -> Any:
    """The model of a checkpoint on this machine's device, in evaluation mode.

    `dtype` (fp32, bf16, fp16) is the type of the unquantized weights and of the arithmetic. Raises InputError where
    the folder cannot be loaded and UnavailableError where the machine lacks what the scheme needs.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            dtype=torch_dtype(scheme.compute_dtype or dtype),
            device_map=device(),
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
        )
    except ImportError as error:
        raise UnavailableError(
            f"loading a {scheme.name} checkpoint needs a package that is not installed: {error}",
            f"run in the environment {scheme.environment!r} (make env NAME={scheme.environment})",
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(
            f"cannot load the {scheme.name} checkpoint in {checkpoint.folder}: {error}",
            "make the checkpoint again",
        ) from error
    model.eval()
    return model


def memory_mib() -> dict[str, float | None]:
    """GPU memory of this process: allocated and reserved now, and the peak since `reset_peak_memory`.

    On a machine without GPU these are None, and `peak_rss_mib` is the process's own peak in main memory.
    """
    import resource

    import torch

    found: dict[str, float | None] = {"allocated_mib": None, "reserved_mib": None, "peak_allocated_mib": None}
    if torch.cuda.is_available():
        found["allocated_mib"] = sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
        found["reserved_mib"] = sum(torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())) / 2**20
        found["peak_allocated_mib"] = (
            sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
        )
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def reset_peak_memory() -> None:
    """Start a new peak of GPU memory, so that one phase does not report another's."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.init()  # before the first use of a GPU there is no statistic to reset, and torch says so by an error
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)

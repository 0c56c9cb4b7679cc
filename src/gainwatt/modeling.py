"""Loading tokenizers and models in the same way everywhere: local files, safetensors, the study's type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError, UnavailableError
from gainwatt.older_transformers import is_older, readable
from gainwatt.oom import is_out_of_memory
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


def compute_device() -> tuple[str, tuple[int, int] | None]:
    """`device()` and the first GPU's compute capability; `cpu` and None in an environment without torch."""
    torch = _torch()
    if torch is None or not torch.cuda.is_available():
        return "cpu", None
    major, minor = torch.cuda.get_device_capability()
    return "cuda", (major, minor)


def dtype_option(name: str) -> dict[str, Any]:
    """The option of `from_pretrained` that sets the type called fp32, bf16 or fp16, as this version names it."""
    return {"torch_dtype" if is_older() else "dtype": torch_dtype(name)}


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a checkpoint, padding on the left. Raises InputError naming the folder."""
    from transformers import AutoTokenizer

    try:
        with readable(folder) as view:
            tokenizer = AutoTokenizer.from_pretrained(view, trust_remote_code=trust_remote_code, local_files_only=True)
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

    load = _load_autoawq if scheme.kind == "autoawq" else _load_transformers
    try:
        with readable(checkpoint.folder) as view:
            model = load(view, scheme.compute_dtype or dtype, trust_remote_code)
    except ImportError as error:
        raise UnavailableError(
            f"loading a {scheme.name} checkpoint needs a package that is not installed: {error}",
            f"run in the environment {_environment(scheme)!r} (make env NAME={_environment(scheme)})",
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"cannot load the {scheme.name} checkpoint in {checkpoint.folder}: {error}",
            "make the checkpoint again",
        ) from error
    model.eval()
    return model


def _load_transformers(folder: Path, dtype: str, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            device_map=device(),
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **dtype_option(dtype),
        )
    except Exception as error:
        if is_out_of_memory(error) or not _misdescribed(error):
            raise
        raise ValueError(f"config.json does not describe the tensors in the files: {error}") from error
    # transformers would go on with random numbers for what is absent, and without what it has no place for.
    modules = dict(model.named_modules())
    absent = sorted(report["missing_keys"])
    homeless = sorted(key for key in report["unexpected_keys"] if key.rpartition(".")[0] in modules)
    needed, left_over = "that the model needs are not in the files", "have no place in the model"
    for names, what in ((absent, needed), (homeless, left_over)):
        if names:
            raise ValueError(f"config.json does not fit: {len(names)} tensors {what}, e.g. {names[0]}")
    return model


def _misdescribed(error: Exception) -> bool:
    """True for the ways in which transformers reports shapes or counts that contradict each other."""
    return "ignore_mismatched_sizes" in str(error) or type(error).__name__.startswith("StrictDataclass")


def _load_autoawq(folder: Path, dtype: str, trust_remote_code: bool) -> Any:
    from gainwatt.quantization.autoawq_load import load

    return load(folder, torch_dtype(dtype), device(), trust_remote_code=trust_remote_code)


def _environment(scheme: Scheme) -> str:
    loader = scheme.loader("transformers")
    return loader.environment if loader else scheme.environment


def loaded_bytes(model: Any) -> int:
    """Bytes of all parameters, buffers and the scales that bitsandbytes keeps beside them; shared ones count once."""
    seen: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        for part in (tensor, *_states(tensor)):
            storage = part.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def _states(parameter: Any) -> list[Any]:
    """The tensors that bitsandbytes hangs on a quantized weight: scales, levels, and the scales of the scales."""
    # vLLM joins matrices, and keeps a state for each part.
    states = [getattr(parameter, "quant_state", None), *(getattr(parameter, "bnb_quant_state", None) or {}).values()]
    states += [getattr(state, "state2", None) for state in states]
    names = ("absmax", "code", "offset")
    found = [getattr(parameter, "SCB", None), *(getattr(state, name, None) for state in states for name in names)]
    return [tensor for tensor in found if hasattr(tensor, "untyped_storage")]


def linear_modules(model: Any) -> dict[str, int]:
    """How many linear layers of which class, with weights of which type: what multiplies the matrices.

    `Linear4bit[uint8]` multiplies packed weights; `Linear[bfloat16]` in a model of a quantized checkpoint says that the
    weights were dequantized for good.
    """
    found: dict[str, int] = {}
    for module in model.modules():
        if hasattr(module, "in_features") and hasattr(module, "out_features"):
            weight = getattr(module, "weight", getattr(module, "qweight", getattr(module, "weight_packed", None)))
            kind = str(weight.dtype).removeprefix("torch.") if weight is not None else "no weight"
            name = f"{type(module).__name__}[{kind}]"
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


NO_GPU_MEMORY = "no GPU: torch counts allocated memory on GPUs only; see peak_rss_mib"
"""Why the numbers of `memory_mib` are None."""


def memory_mib() -> dict[str, float | None]:
    """GPU memory of this process: allocated and reserved now, and the peak since `reset_peak_memory`.

    On a machine without GPU these are None, and `peak_rss_mib` is the process's own peak in main memory.
    """
    import resource

    found: dict[str, float | None] = {"allocated_mib": None, "reserved_mib": None, "peak_allocated_mib": None}
    torch = _torch()
    if torch is not None and torch.cuda.is_available():
        found["allocated_mib"] = sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
        found["reserved_mib"] = sum(torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())) / 2**20
        found["peak_allocated_mib"] = (
            sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
        )
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def reset_peak_memory() -> None:
    """Start a new peak of GPU memory, so that one phase does not report another's."""
    torch = _torch()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.init()  # before the first use of a GPU there is no statistic to reset, and torch says so by an error
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)


def _torch() -> Any | None:
    """torch, or None in an environment without it (llama.cpp's)."""
    try:
        import torch
    except ImportError:
        return None
    return torch

"""llama.cpp: the checkpoint is written as GGUF in its own type, then quantized by llama.cpp itself."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.llamacpp import FILE
from gainwatt.errors import InputError, UnavailableError
from gainwatt.modeling import load_tokenizer
from gainwatt.quantization.gguf_tokenizer import CANDIDATES, agrees
from gainwatt.quantization.gguf_write import write_gguf
from gainwatt.quantization.made import Made
from gainwatt.schemes import Scheme


def quantize(checkpoint: Checkpoint, scheme: Scheme, folder: Path, *, texts: Sequence[str]) -> Made:
    """Quantize `checkpoint` by `scheme` to folder/model.gguf, with the checkpoint's config.json beside it.

    `texts` are samples on which llama.cpp's tokenizer must agree with the checkpoint's own. The record's `about` counts
    the tensors by the type that they got. Raises InputError where something cannot be converted.
    """
    import llama_cpp

    plain = folder / "plain.gguf"
    pre_tokenizer = convert(checkpoint, plain, texts)
    code = quantize_file(plain, folder / FILE, str(scheme.options["file_type"]))
    plain.unlink()
    if code != 0:
        raise UnavailableError(f"llama.cpp could not quantize to {scheme.name} (code {code})", "see the log above")
    shutil.copyfile(checkpoint.folder / "config.json", folder / "config.json")
    types = stored_types(folder / FILE)
    if scheme.options["block_type"] not in types.values():
        raise InputError(
            f"llama.cpp stored no matrix of {checkpoint.folder} as {scheme.options['block_type']}, but as "
            f"{', '.join(sorted(set(types.values())))}: the widths do not suit {scheme.name}",
            "leave this scheme out of quantize.schemes for this model",
        )
    about: dict[str, Any] = {
        "pre_tokenizer": pre_tokenizer, "tokenizer_checked_texts": len(texts),
        "stored_types": dict(sorted(Counter(types.values()).items())),
        "embedding_type": types.get("token_embd.weight"),
        "matrices_in_named_type": sum(kind == scheme.options["block_type"] for kind in types.values()),
        "libllama_system": llama_cpp.llama_print_system_info().decode().strip(),
    }  # fmt: skip
    return Made(about=about)


def quantize_file(source: Path, target: Path, file_type: str, *, again: bool = False) -> int:
    """Quantize one GGUF file to another of `file_type`, e.g. MOSTLY_Q4_0; returns llama.cpp's code, 0 for success.

    `again` allows a source that is quantized itself.
    """
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{file_type}")
    options.nthread = _threads()
    options.allow_requantize = again
    return int(llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), options))


def convert(checkpoint: Checkpoint, target: Path, texts: Sequence[str]) -> str:
    """Write `target`; returns llama.cpp's name of the checkpoint's way of splitting text."""
    tokenizer = load_tokenizer(checkpoint.folder)
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    for name in CANDIDATES:
        write_gguf(checkpoint.folder, target, pre_tokenizer=name, weights=False)
        found = agrees(target, texts, expected)
        target.unlink()
        if found:
            write_gguf(checkpoint.folder, target, pre_tokenizer=name)
            return name
    raise InputError(
        f"llama.cpp knows no way of splitting text that gives the token ids of the tokenizer in {checkpoint.folder} "
        f"(tried {', '.join(CANDIDATES)})",
        "leave the gguf schemes out of quantize.schemes for this model",
    )


def stored_types(file: Path) -> dict[str, str]:
    """Tensor -> the type that it has in a GGUF file, e.g. Q4_K."""
    import gguf

    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))

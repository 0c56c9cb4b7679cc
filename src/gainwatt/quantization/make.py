"""From a scheme to the tool that makes its checkpoint. The tools are imported only when they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_folder
from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError
from gainwatt.quantization.calibration import Calibration
from gainwatt.quantization.made import Made
from gainwatt.schemes import Scheme
from gainwatt.study import Study

# The tokenizer of a quantized checkpoint is its parent's, byte by byte; so is the code of a model that brings its own.
_CARRIED = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template*", "*.py",
)  # fmt: skip


def make(
    study: Study,
    base: Checkpoint,
    scheme: Scheme,
    folder: Path,
    calibration: Calibration | None,
    texts: Sequence[str],
) -> Made:
    """Quantize `base` into `folder`, which appears whole or not at all; what a killed run left behind is removed.

    `calibration` is needed by the schemes that look at text; `texts` are samples for checking a converted tokenizer.
    Raises what the tool raises, UnavailableError included.
    """
    if scheme.calibrated and calibration is None:
        raise InputError(f"{scheme.name} needs calibration text", "give --data")
    _remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        made = _with_tool(study, base, scheme, temporary, calibration if scheme.calibrated else None, texts)
        for pattern in _CARRIED:
            for path in base.folder.glob(pattern):
                shutil.copyfile(path, temporary / path.name)
    return made


def _with_tool(
    study: Study,
    base: Checkpoint,
    scheme: Scheme,
    folder: Path,
    calibration: Calibration | None,
    texts: Sequence[str],
) -> Made:
    common: dict[str, Any] = {"dtype": study.model.dtype, "trust_remote_code": study.model.trust_remote_code}
    if scheme.kind == "bitsandbytes":
        from gainwatt.quantization import bitsandbytes

        return bitsandbytes.quantize(base, scheme, folder, **common)
    if scheme.kind == "llmcompressor":
        from gainwatt.quantization import llmcompressor

        return llmcompressor.quantize(
            base, scheme, folder, calibration=calibration, grid_points=study.quantize.awq_grid_points, **common
        )
    if scheme.kind == "autoawq":
        from gainwatt.quantization import autoawq

        assert calibration is not None  # noqa: S101 - make() refuses it
        return autoawq.quantize(
            base, scheme, folder, calibration=calibration, block_tokens=study.quantize.calibration_max_tokens, **common
        )
    if scheme.kind == "llamacpp":
        from gainwatt.quantization import llamacpp

        return llamacpp.quantize(base, scheme, folder, texts=texts)
    raise InputError(f"{scheme.name} is not quantized: there is nothing to make", "evaluate it directly")


def _remove_leftovers(folder: Path) -> None:
    """Temporary folders of killed runs of this cell; the workflow runs a cell once at a time."""
    for path in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)

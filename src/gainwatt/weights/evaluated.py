"""The error of the quantized checkpoint that is evaluated, and what quantization leaves of the training's change.

All of it from the stored codes and scales (see `stored`), on the scale of the unquantized weights (see `rescaled`).
With W the trained weights, B the base's, and Ŵ, B̂ what is restored from their quantized checkpoints:

    relative_mse             ‖Ŵ - W‖² / ‖W‖²
    code_flip_frac           share of stored codes that differ between Ŵ and B̂
    update_rms_over_step     rms(W - B) / rms(step), with the steps of B̂
    quantized_change_ratio   ‖Ŵ - B̂‖ / ‖W - B‖: above 1, the quantizer's jumps exceed the change that caused them
    quantized_change_cosine  of the angle between Ŵ - B̂ and W - B: 1, and the direction of the training is kept
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.quantization.checks import read_config
from gainwatt.weights.measure import snr_db
from gainwatt.weights.rescaled import Norms, Rescaling
from gainwatt.weights.select import Matrix, matrices
from gainwatt.weights.stored import StoredBlock, StoredMatrix, stored_matrices
from gainwatt.weights.tensors import Tensor, read_tensors, row_blocks, rows_per_block
from gainwatt.weights.update import count_differing

NUMBERS = (
    "relative_mse", "snr_db", "max_abs_error", "code_flip_frac", "update_rms_over_step", "quantized_change_ratio",
    "quantized_change_cosine",
)  # fmt: skip
CHANGES = NUMBERS[3:]


@dataclass(frozen=True)
class Side:
    """An unquantized checkpoint and the quantized one that was made from it."""

    dense: dict[str, Tensor]
    stored: dict[str, StoredMatrix]
    norms: Norms

    @classmethod
    def read(cls, dense: Path, quantized: Path, *, include_embeddings: bool = False) -> Side:
        """Raises InputError for what cannot be read, UnavailableError naming a format that is not read here."""
        stored = stored_matrices(quantized)
        found = {m.module: m.tensor for m in matrices(dense, include_embeddings=include_embeddings)}
        for module, matrix in stored.items():
            if module in found and found[module].shape != matrix.shape:
                raise InputError(
                    f"{module} has the shape {list(found[module].shape)} in {dense} and {list(matrix.shape)} in "
                    f"{quantized}",
                    "give the checkpoint that was quantized",
                )
        return cls(found, stored, _norms(dense, quantized))

    def blocks(self, module: str, elements: int, device: str) -> Iterator[tuple[Any, StoredBlock]]:
        """Blocks of the unquantized matrix (fp32) and of what is stored for it, on its scale."""
        tensor, stored = self.dense[module], self.stored[module]
        rescaling = self.norms.rescaling(module, self.dense, self.stored, elements)
        first, step = 0, rows_per_block(tensor.shape, elements)
        for block in row_blocks(tensor, elements=elements, device=device):
            yield block.float(), _to(stored.block(first, step), device, rescaling, first)
            first += len(block)


def _norms(dense: Path, quantized: Path) -> Norms:
    return Norms.compare(read_tensors(dense), read_tensors(quantized), str(read_config(dense).get("model_type")))


def _to(block: StoredBlock, device: str, rescaling: Rescaling, first: int) -> StoredBlock:
    values, steps = (rescaling.undo(part.to(device), first) for part in (block.values, block.steps))
    return StoredBlock(block.codes.to(device), values, steps)


class Sums:
    """What adds up over blocks and matrices."""

    def __init__(self) -> None:
        self.numel = 0
        self.flips = 0
        self.max_abs = 0.0
        self.changed = False
        self.total: dict[str, float] = dict.fromkeys(
            ("error", "weight", "step", "update", "quantized_update", "dot"), 0.0
        )

    def add_error(self, weights: Any, stored: StoredBlock) -> None:
        """A block of the checkpoint itself."""
        error = stored.values - weights
        self.numel += weights.numel()
        self.total["error"] += _square_sum(error)
        self.total["weight"] += _square_sum(weights)
        self.max_abs = max(self.max_abs, float(error.abs().max()))

    def add_change(self, weights: Any, stored: StoredBlock, before: Any, base: StoredBlock) -> None:
        """The same block of the base, unquantized and stored."""
        import torch

        update = (weights - before).reshape(-1)
        quantized = (stored.values - base.values).reshape(-1)
        self.changed = True
        self.flips += count_differing(stored.codes, base.codes)
        self.total["update"] += _square_sum(update)
        self.total["quantized_update"] += _square_sum(quantized)
        self.total["dot"] += float(torch.dot(update, quantized))
        self.total["step"] += _square_sum(base.steps) * (before.numel() / base.steps.numel())

    def __iadd__(self, other: Sums) -> Sums:
        self.numel += other.numel
        self.flips += other.flips
        self.max_abs = max(self.max_abs, other.max_abs)
        self.changed |= other.changed
        for name, value in other.total.items():
            self.total[name] += value
        return self

    def numbers(self) -> dict[str, float | None]:
        """`NUMBERS`; what is undefined is None, and so are the changes where no base was added."""
        total = self.total
        relative = _over(total["error"], total["weight"])
        found: dict[str, float | None] = dict.fromkeys(NUMBERS)
        found |= {"relative_mse": relative, "snr_db": snr_db(relative), "max_abs_error": self.max_abs}
        if self.changed:
            both = math.sqrt(total["update"] * total["quantized_update"])
            found |= {
                "code_flip_frac": self.flips / self.numel,
                "update_rms_over_step": _root(_over(total["update"], total["step"])),
                "quantized_change_ratio": _root(_over(total["quantized_update"], total["update"])),
                "quantized_change_cosine": _over(total["dot"], both),
            }
        return found


def compare(
    ours: Side, base: Side | None, scheme: str, modules: list[Matrix], *, elements: int, device: str
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """One row per matrix that `scheme` quantized (module_name, scheme, format, numel, `NUMBERS`), and the pooled
    numbers.

    Raises InputError where base and trained checkpoint are not quantized in the same places and format.
    """
    pooled = Sums()
    rows = []
    for matrix in modules:
        module = matrix.module
        if module not in ours.stored:
            continue
        if base is not None:
            _check_same(ours, base, module, scheme)
        sums = Sums()
        theirs = base.blocks(module, elements, device) if base is not None else None
        for weights, stored in ours.blocks(module, elements, device):
            sums.add_error(weights, stored)
            if theirs is not None:
                sums.add_change(weights, stored, *next(theirs))
        if not math.isfinite(sums.total["error"]):
            raise InputError(
                f"{module} of the {scheme} checkpoint, or the weight that it was made from, holds a value that is "
                "infinite or not a number",
                "look at the unquantized checkpoint, and quantize it again",
            )
        pooled += sums
        about = {"module_name": module, "scheme": scheme, "format": ours.stored[module].format, "numel": sums.numel}
        rows.append({**about, **sums.numbers()})
    if not rows:
        raise InputError(f"the {scheme} checkpoint stores none of the measured matrices quantized", "quantize it again")
    return rows, pooled.numbers()


def _check_same(ours: Side, base: Side, module: str, scheme: str) -> None:
    one, two = ours.stored[module], base.stored.get(module)
    if two is None or (one.shape, one.format) != (two.shape, two.format):
        other = "not quantized there" if two is None else f"{two.format} of shape {list(two.shape)}"
        raise InputError(
            f"{module} is {one.format} of shape {list(one.shape)} in the {scheme} checkpoint, in the base's {other}",
            "quantize base and trained checkpoint with the same settings",
        )


def _square_sum(values: Any) -> float:
    import torch

    flat = values.reshape(-1)
    return float(torch.dot(flat, flat))


def _over(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)

"""One row per 2-D weight: distribution, channels, 4-bit error, and what training changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gainwatt.errors import InputError
from gainwatt.weights.channels import ChannelMaxima, channel_columns
from gainwatt.weights.control import Noise, update_square_sum
from gainwatt.weights.moments import Distribution, Histogram16, PowerSums32
from gainwatt.weights.quantizers import SYMMETRIC, QuantError, Quantizer, quantizer
from gainwatt.weights.select import Matrix
from gainwatt.weights.tensors import Tensor, row_blocks
from gainwatt.weights.update import Update, column_name, update_columns, update_names

CPU_BLOCK_ELEMENTS = 1 << 18  # 1 MiB as fp32: what one core's second-level cache holds
GPU_BLOCK_ELEMENTS = 1 << 22  # some 200 MiB of temporaries: leaves room on the smallest GPU
BASE_COLUMNS = (
    "model", "module_name", "module_type", "shape", "ndim", "numel", "dtype",
    "max_abs", "mean_abs", "median_abs", "std", "rms", "kurtosis",
    "abs_outlier_threshold", "abs_outlier_frac", "out_channels", "in_channels",
    "channel_max_abs_mean", "channel_max_abs_median", "channel_max_abs_p95", "channel_max_abs_p99",
    "channel_max_abs_max", "channel_outlier_threshold", "channel_outlier_frac",
    "w4_group_size", "w4_mse", "w4_relative_mse", "w4_snr_db", "w4_max_abs_error",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How weights are measured; `schemes` names the quantizers of the extra columns.

    `random_control` also counts the codes that noise as large as the training's change would flip.
    """

    group_size: int = 128
    outlier_multiplier: float = 6.0
    schemes: tuple[str, ...] = (SYMMETRIC,)
    device: str = "cpu"
    block_elements: int | None = None
    random_control: bool = False

    def elements(self) -> int:
        """Elements per block: the caller's, or what suits the device."""
        return self.block_elements or (CPU_BLOCK_ELEMENTS if self.device == "cpu" else GPU_BLOCK_ELEMENTS)

    def columns(self) -> list[str]:
        """Columns of a row, in order."""
        errors = [f"relative_mse_{column_name(scheme)}" for scheme in self.schemes]
        return [*BASE_COLUMNS, *errors, *update_names(list(self.schemes))]


@dataclass(frozen=True)
class Measured:
    """The row of a matrix (see `Plan.columns`; None where undefined), and the sums that pool over matrices."""

    row: dict[str, Any]
    sums: dict[str, float] = field(default_factory=dict)


def measure(matrix: Matrix, base: Tensor | None, plan: Plan, *, label: str) -> Measured:
    """Measure one matrix, against its base where there is one. `label` fills the column `model`.

    Reads the matrix (and its base) in blocks; beside them only per-channel and per-group numbers are held. Raises
    InputError naming a tensor with a weight that is infinite or not a number.
    """
    made = _quantizers(plan)
    followed = [q for q in made if q.name in plan.schemes]
    tensor = matrix.tensor
    shape = Histogram16(plan.outlier_multiplier) if _is_16bit(tensor) else PowerSums32(plan.outlier_multiplier)
    errors = {q.name: q.errors(tensor.numel) for q in made}
    update = _update(tensor, base, followed, plan) if base is not None else None
    maxima = ChannelMaxima(tensor.shape[0])
    for block, before in _blocks(tensor, base, plan):
        shape.add(block)
        weights = block.float()
        maxima.add(weights)
        encoded = {q.name: q.encode(weights) for q in made}
        for name, total in errors.items():
            total.add(weights, encoded[name])
        if update is not None:
            update.add(weights, before.float(), encoded)
    spread = _result(shape, tensor, plan)
    found = {name: total.result() for name, total in errors.items()}
    row = _row(matrix, spread, maxima.values, found, plan, label)
    sums = _pool(spread, found)
    if update is not None:
        changes = update.sums()
        row.update(update_columns(changes, [q.name for q in followed]))
        sums.update(changes)
    return Measured({column: row.get(column) for column in plan.columns()}, sums)


def _quantizers(plan: Plan) -> list[Quantizer]:
    """The symmetric proxy, whose columns are always there, and those of the plan."""
    return [quantizer(name, group_size=plan.group_size) for name in dict.fromkeys((SYMMETRIC, *plan.schemes))]


def _update(tensor: Tensor, base: Tensor, followed: list[Quantizer], plan: Plan) -> Update:
    if not plan.random_control:
        return Update(followed)
    update_sq = update_square_sum(tensor, base, elements=plan.elements(), device=plan.device)
    if not math.isfinite(update_sq):
        return Update(followed)  # the pass that follows names the tensor
    return Update(followed, Noise(base, update_sq, plan.device))


def _is_16bit(tensor: Tensor) -> bool:
    return tensor.torch_name != "float32"


def _blocks(tensor: Tensor, base: Tensor | None, plan: Plan) -> Iterator[tuple[Any, Any]]:
    ours = row_blocks(tensor, elements=plan.elements(), device=plan.device)
    if base is None:
        yield from ((block, None) for block in ours)
    else:
        yield from zip(ours, row_blocks(base, elements=plan.elements(), device=plan.device), strict=True)


def _result(shape: Histogram16 | PowerSums32, tensor: Tensor, plan: Plan) -> Distribution:
    if isinstance(shape, Histogram16):
        spread = shape.result()
    else:
        spread = shape.result(lambda: row_blocks(tensor, elements=plan.elements(), device=plan.device))
    if not spread.finite:
        raise InputError(
            f"the tensor {tensor.name} in {tensor.path} holds a weight that is infinite or not a number",
            "the checkpoint is damaged or its training diverged: make it again",
        )
    return spread


def _row(
    matrix: Matrix, spread: Distribution, maxima: Any, errors: dict[str, QuantError], plan: Plan, label: str
) -> dict[str, Any]:
    tensor, numel = matrix.tensor, spread.numel
    symmetric = errors[SYMMETRIC]
    relative = _over(symmetric.square_sum / numel, spread.mean_sq)
    row = {
        "model": label,
        "module_name": matrix.module,
        "module_type": matrix.kind,
        "shape": "x".join(str(n) for n in tensor.shape),
        "ndim": len(tensor.shape),
        "numel": numel,
        "dtype": tensor.torch_name,
        "max_abs": spread.max_abs,
        "mean_abs": spread.mean_abs,
        "median_abs": spread.median_abs,
        "std": spread.std,
        "rms": math.sqrt(spread.mean_sq),
        "kurtosis": spread.kurtosis,
        "abs_outlier_threshold": spread.threshold,
        "abs_outlier_frac": spread.outliers / numel,
        "out_channels": tensor.shape[0],
        "in_channels": tensor.shape[1],
        **channel_columns(maxima, plan.outlier_multiplier),
        "w4_group_size": plan.group_size,
        "w4_mse": symmetric.square_sum / numel,
        "w4_relative_mse": relative,
        "w4_snr_db": snr_db(relative),
        "w4_max_abs_error": symmetric.max_abs,
    }
    for name in plan.schemes:
        row[f"relative_mse_{column_name(name)}"] = _over(errors[name].square_sum / numel, spread.mean_sq)
    return row


def _pool(spread: Distribution, errors: dict[str, QuantError]) -> dict[str, float]:
    sums = {"numel": float(spread.numel), "weight_sq": spread.mean_sq * spread.numel}
    return sums | {f"error_sq.{name}": error.square_sum for name, error in errors.items()}


def snr_db(relative_mse: float | None) -> float | None:
    """10 log10 of signal over error; None where the error is zero or the signal is."""
    return -10 * math.log10(relative_mse) if relative_mse else None


def _over(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None

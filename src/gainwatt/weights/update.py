"""What training changed in one tensor: norm, share of changed weights, codes that flipped, change against step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gainwatt.weights.control import Noise
from gainwatt.weights.quantizers import Encoded, Quantizer


class Update:
    """Sums over the blocks of a trained tensor and its base; with `noise`, also the codes that noise flips."""

    def __init__(self, quantizers: list[Quantizer], noise: Noise | None = None) -> None:
        self._quantizers = quantizers
        self._noise = noise
        self._random_flips = {q.name: 0 for q in quantizers}
        self._random_sq: Any = 0.0
        self._numel = 0
        self._changed = 0
        self._update_sq: Any = 0.0
        self._base_sq: Any = 0.0
        self._flips = {q.name: 0 for q in quantizers}
        self._step_sq: dict[str, Any] = {q.name: 0.0 for q in quantizers}

    def add(self, trained: Any, base: Any, encoded: Mapping[str, Encoded]) -> None:
        """Add fp32 blocks [rows, columns] of both; `encoded` holds the trained block's encodings by quantizer."""
        import torch

        difference = (trained - base).view(-1)
        flat = base.reshape(-1)
        self._numel += flat.numel()
        self._changed += count_differing(trained, base)
        self._update_sq = self._update_sq + torch.dot(difference, difference).double()
        self._base_sq = self._base_sq + torch.dot(flat, flat).double()
        noisy = self._noise.added_to(base) if self._noise is not None else None
        if noisy is not None:
            moved = (noisy - base).view(-1)
            self._random_sq = self._random_sq + torch.dot(moved, moved).double()
        for quantizer in self._quantizers:
            before = quantizer.encode(base)
            if noisy is not None:
                self._random_flips[quantizer.name] += count_differing(quantizer.encode(noisy).codes, before.codes)
            name = quantizer.name
            self._flips[name] += count_differing(encoded[name].codes, before.codes)
            self._step_sq[name] = self._step_sq[name] + quantizer.step_square_sum(before, flat.numel(), base.shape[1])

    def sums(self) -> dict[str, float]:
        """What adds up over tensors: `changed`, `update_sq`, `base_sq`, `flips.*`, `step_sq.*`; with noise also
        `random_sq` and `random_flips.*`.
        """
        found = {
            "numel": float(self._numel),
            "changed": float(self._changed),
            "update_sq": float(self._update_sq),
            "base_sq": float(self._base_sq),
        }
        if self._noise is not None:
            found["random_sq"] = float(self._random_sq)
        for name in self._flips:
            found[f"flips.{name}"] = float(self._flips[name])
            found[f"step_sq.{name}"] = float(self._step_sq[name])
            if self._noise is not None:
                found[f"random_flips.{name}"] = float(self._random_flips[name])
        return found


def update_columns(sums: Mapping[str, float], names: list[str]) -> dict[str, float | None]:
    """Shares and ratios of `Update.sums`, of one tensor or added up over tensors.

    relative_update_norm = ‖Δw‖ / ‖w_base‖; random_norm_ratio = ‖noise‖ / ‖Δw‖; update_rms_over_step = rms(Δw) /
    rms(step), with the base's steps. A ratio to zero is None, and so are the random numbers where no noise was added.
    """
    found: dict[str, float | None] = {
        "weights_changed_frac": sums["changed"] / sums["numel"],
        "relative_update_norm": _root_ratio(sums["update_sq"], sums["base_sq"]),
        "random_norm_ratio": _root_ratio(sums["random_sq"], sums["update_sq"]) if "random_sq" in sums else None,
    }
    for name in names:
        key = column_name(name)
        found[f"code_flip_frac_{key}"] = sums[f"flips.{name}"] / sums["numel"]
        random = sums.get(f"random_flips.{name}")
        found[f"random_code_flip_frac_{key}"] = None if random is None else random / sums["numel"]
        found[f"update_rms_over_step_{key}"] = _root_ratio(sums["update_sq"], sums[f"step_sq.{name}"])
    return found


def update_names(quantizers: list[str]) -> list[str]:
    """The keys of `update_columns`, in order."""
    per_quantizer = ("code_flip_frac", "random_code_flip_frac", "update_rms_over_step")
    keys = [f"{column}_{column_name(name)}" for name in quantizers for column in per_quantizer]
    return ["weights_changed_frac", "relative_update_norm", "random_norm_ratio", *keys]


def column_name(quantizer: str) -> str:
    """A quantizer's name as part of a column name."""
    return quantizer.replace("-", "_")


def count_differing(one: Any, two: Any) -> int:
    """Number of elements in which two tensors of the same shape differ. numpy on the CPU: it compares with SIMD."""
    import numpy as np
    import torch

    if one.is_cuda:
        return int(torch.count_nonzero(one != two))
    return int(np.count_nonzero(one.numpy() != two.numpy()))


def _root_ratio(numerator: float, denominator: float) -> float | None:
    return math.sqrt(numerator / denominator) if denominator > 0 else None

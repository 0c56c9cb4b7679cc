"""The numbers of a whole checkpoint, from the rows and sums of its tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gainwatt.weights.measure import Measured, Plan, snr_db
from gainwatt.weights.quantizers import SYMMETRIC
from gainwatt.weights.update import column_name, update_columns, update_names

WEIGHTED = (
    "mean_abs", "std", "rms", "kurtosis", "abs_outlier_frac", "channel_outlier_frac", "w4_mse", "w4_relative_mse",
)  # fmt: skip
TOP = 10


def summarize(measured: list[Measured], plan: Plan) -> dict[str, Any]:
    """Metrics of a checkpoint; None where a number is undefined (`null_reasons` says why).

    `*_weighted` are means over tensors weighted by their number of weights, `w4_snr_db_mean` is the unweighted mean
    over tensors, `*_pooled` come from the summed energies of all weights. `top_*` list the ten tensors with the
    largest value.
    """
    rows = [entry.row for entry in measured]
    sums: dict[str, float] = defaultdict(float)
    for entry in measured:
        for name, value in entry.sums.items():
            sums[name] += value
    found: dict[str, Any] = {
        "tensors": len(rows),
        "weights": int(sums["numel"]),
        "max_abs_max": max(row["max_abs"] for row in rows),
    }
    for column in WEIGHTED:
        found[f"{column}_weighted"] = _weighted(rows, column)
    snrs = [row["w4_snr_db"] for row in rows if row["w4_snr_db"] is not None]
    found["w4_snr_db_mean"] = sum(snrs) / len(snrs) if snrs else None
    found["w4_snr_db_pooled"] = snr_db(_pooled_error(sums, SYMMETRIC))
    for name in plan.schemes:
        key = column_name(name)
        found[f"relative_mse_{key}_pooled"] = _pooled_error(sums, name)
        found[f"snr_db_{key}_pooled"] = snr_db(_pooled_error(sums, name))
    found |= _update(sums, plan)
    found["top_relative_mse"] = _top(rows, "w4_relative_mse")
    found["top_channel_outliers"] = _top(rows, "channel_outlier_frac")
    return found


def null_reasons(metrics: dict[str, Any], plan: Plan, *, trained: bool) -> dict[str, str]:
    """Why each null metric is null."""
    changes = set(update_names(list(plan.schemes)))
    reasons = {}
    for name, value in metrics.items():
        if value is not None:
            continue
        if not trained and name in changes:
            reasons[name] = "the base is what trained checkpoints are compared with"
        elif name.startswith("random_") and not plan.random_control:
            reasons[name] = "the random control is switched off (diagnose.random_control)"
        elif name == "random_norm_ratio":
            reasons[name] = "undefined: training changed no weight, and neither does noise as large as that"
        elif "snr" in name:
            reasons[name] = "undefined: no quantization error, or no weight other than zero"
        else:
            reasons[name] = "undefined: all weights, or all their deviations, are zero"
    return reasons


def _update(sums: Mapping[str, float], plan: Plan) -> dict[str, float | None]:
    names = list(plan.schemes)
    if "changed" in sums:
        return update_columns(sums, names)
    return dict.fromkeys(update_names(names))


def _weighted(rows: list[dict[str, Any]], column: str) -> float | None:
    there = [(row[column], row["numel"]) for row in rows if row[column] is not None]
    total = sum(numel for _, numel in there)
    return sum(value * numel for value, numel in there) / total if total else None


def _pooled_error(sums: Mapping[str, float], name: str) -> float | None:
    return sums[f"error_sq.{name}"] / sums["weight_sq"] if sums["weight_sq"] > 0 else None


def _top(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    there = sorted((row for row in rows if row[column] is not None), key=lambda row: (-row[column], row["module_name"]))
    return [{"module": row["module_name"], "value": row[column]} for row in there[:TOP]]

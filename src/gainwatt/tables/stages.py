"""Tables of the stages before the evaluation: training, quantization, weights."""

from __future__ import annotations

from typing import Any

from gainwatt.tables.cost import energy_notes, phase_energy
from gainwatt.tables.results import Results

Row = dict[str, Any]

_TRAINING = (
    "steps", "reward_first", "reward_last", "frac_reward_zero_std_mean", "clipped_ratio_mean",
    "completion_tokens_mean", "prompts_seen", "unique_prompts", "prompts_per_step", "epochs", "completions",
    "step_s_mean", "step_s_warm_mean", "rollout_s", "update_s", "rollouts_per_min", "rollouts_per_min_warm",
    "weights_changed_frac", "relative_update_norm", "resumed_from_step",
)  # fmt: skip


def training(results: Results) -> list[Row]:
    """One row per trained variant, with joules per optimizer step over the steps that this run metered."""
    rows = []
    for variant, record in results.trainings.items():
        metrics = record["metrics"]
        gross, _, _ = phase_energy(record, "train")
        rollout, _, _ = phase_energy(record, "train/rollout")
        steps = metrics.get("steps_this_run")
        rows.append(
            {
                "variant": variant,
                "status": record["status"],
                **{name: metrics.get(name) for name in _TRAINING},
                "gross_j_per_step": gross / steps if gross is not None and steps else None,
                "rollout_energy_frac": rollout / gross if rollout is not None and gross else None,
                **energy_notes(record, "train"),
            }
        )
    return rows


def quantization(results: Results) -> list[Row]:
    """One row per quantized checkpoint: bytes on disk and after load, time, memory, weight and search errors.

    `used_bytes` are those of the weights after the first answer: some layers dequantize them for good. `loaded_by` are
    the engines that loaded the checkpoint and generated, `kernels` what then multiplied its matrices.

    `relative_mse` is that of the stored weights. `search_error_*` are the mean squared output errors that AWQ saw,
    before and after it chose its scales: mean and maximum over the layers that it searched, and the mean of after over
    before.
    """
    rows = []
    for cell, record in results.quantizations.items():
        metrics = record["metrics"]
        gross, _, seconds = phase_energy(record, "quantize")
        rows.append(
            {
                "variant": cell.variant,
                "scheme": cell.scheme,
                "status": record["status"],
                "weights_before_bytes": metrics.get("weights_before_bytes"),
                "weights_after_bytes": metrics.get("weights_after_bytes"),
                "compression_ratio": metrics.get("compression_ratio"),
                "quantize_s": seconds,
                "quantize_gross_j": gross,
                "calibration_tokens": record["inputs"].get("calibration", {}).get("tokens"),
                "loaded_bytes": metrics.get("loaded_bytes"),
                "used_bytes": metrics.get("used_bytes"),
                "allocated_after_load_mib": metrics.get("allocated_after_load_mib"),
                "peak_allocated_mib": metrics.get("peak_allocated_mib"),
                "peak_rss_mib": metrics.get("peak_rss_mib"),
                "relative_mse": metrics.get("relative_mse"),
                "relative_mse_max": metrics.get("relative_mse_max"),
                **_search_errors(record["settings"].get("layer_errors") or {}),
                **_engines(record["settings"].get("smoke") or []),
                **energy_notes(record, "quantize"),
            }
        )
    return rows


def _engines(results: list[dict[str, Any]]) -> Row:
    worked = [result for result in results if result["status"] == "ok"]
    kernels = [f"{result['engine']}: {_names(result.get('kernels'))}" for result in worked if result.get("kernels")]
    return {
        "loaded_by": ", ".join(result["engine"] for result in worked) or None,
        "kernels": "; ".join(kernels) or None,
    }


def _names(kernels: Any) -> str:
    """Layer classes or kernels with their counts, or what an engine says in words."""
    if isinstance(kernels, dict):
        return ", ".join(f"{count} {name}" for name, count in kernels.items())
    return str(kernels).strip(" |")


def _search_errors(layers: dict[str, dict[str, float]]) -> Row:
    found = {key: [error[key] for error in layers.values()] for key in ("initial", "best")}
    ratios = [error["best"] / error["initial"] for error in layers.values() if error["initial"]]
    row: Row = {"search_layers": len(layers) or None}
    for key, values in found.items():
        row |= {f"search_error_{key}_mean": _mean(values), f"search_error_{key}_max": max(values, default=None)}
    return row | {"search_error_best_over_initial_mean": _mean(ratios)}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

"""Tables of the stages before the evaluation: training, quantization, weights."""

from __future__ import annotations

from typing import Any

from gainwatt.study import DENSE
from gainwatt.tables.cost import phase_energy
from gainwatt.tables.results import Results
from gainwatt.weights.pairing import check_pairing

Row = dict[str, Any]

_TRAINING = (
    "steps", "reward_first", "reward_last", "frac_reward_zero_std_mean", "clipped_ratio_mean",
    "completion_tokens_mean", "prompts_seen", "unique_prompts", "prompts_per_step", "epochs", "completions",
    "step_s_mean", "rollout_s", "update_s", "rollouts_per_min", "weights_changed_frac", "relative_update_norm",
    "resumed_from_step",
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
            }
        )
    return rows


def quantization(results: Results) -> list[Row]:
    """One row per quantized checkpoint: bytes, time, memory, AWQ's own error."""
    rows = []
    for cell, record in results.quantizations.items():
        metrics = record["metrics"]
        errors = list(record["settings"].get("layer_errors", {}).values())
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
                "layer_error_initial_mean": _mean([error["initial"] for error in errors]),
                "layer_error_best_mean": _mean([error["best"] for error in errors]),
            }
        )
    return rows


def weights(results: Results) -> list[Row]:
    """One row per variant: the global weight statistics of its unquantized checkpoint.

    Raises RecordError when an evaluation of the variant is of another checkpoint than the diagnosis.
    """
    rows = []
    for variant, record in results.diagnoses.items():
        for cell, evaluation in results.evaluations.items():
            if cell.variant == variant and evaluation["status"] == "ok" and record["status"] == "ok":
                check_pairing(record, evaluation)
        numbers = {name: value for name, value in record["metrics"].items() if not isinstance(value, list | dict)}
        rows.append({"variant": variant, "checkpoint": DENSE, "status": record["status"], **numbers})
    return rows


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

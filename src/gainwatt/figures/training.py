"""Reward, completion length and step time over training."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.tables.results import Results, read_sidecar

COLUMNS = ["step", "reward", "completion_tokens_mean", "clipped_ratio", "frac_reward_zero_std", "rollout_s", "update_s"]


def training(results: Results) -> Any | None:
    """Three panels over optimizer steps, one line per training seed; thin raw values under a running mean."""
    runs = {v: read_sidecar(r, "steps", COLUMNS) for v, r in results.trainings.items() if r["status"] == "ok"}
    if not runs:
        return None
    figure, (reward, length, seconds) = style.new(11, 3.2, 3)
    for place, (variant, rows) in enumerate(runs.items()):
        colour = style.COLOURS[place % 8]
        for axes, column in ((reward, "reward"), (length, "completion_tokens_mean")):
            axes.plot(rows["step"], rows[column], color=colour, alpha=0.25, lw=0.8)
            axes.plot(rows["step"], _running_mean(rows[column]), color=colour, label=variant)
        seconds.plot(rows["step"], _running_mean(rows["rollout_s"]), color=colour, label=f"{variant} rollout")
        seconds.plot(rows["step"], _running_mean(rows["update_s"]), color=colour, ls="--", label=f"{variant} update")
    reward.set(title="Reward", xlabel="optimizer step", ylabel="mean reward")
    length.set(title="Completion length", xlabel="optimizer step", ylabel="tokens", ylim=(0, None))
    seconds.set(title="Time of a step", xlabel="optimizer step", ylabel="seconds", ylim=(0, None))
    for axes in (reward, seconds):
        axes.legend(fontsize=8)
    return figure


def _running_mean(values: list[float], width: int = 10) -> list[float]:
    """Mean of each value and the up to `width` - 1 values before it."""
    return [sum(values[max(0, i - width + 1) : i + 1]) / (i + 1 - max(0, i - width + 1)) for i in range(len(values))]

"""The per-step log: JSON lines while training runs, parquet when it has ended.

A killed run may have logged steps after its last checkpoint; when it goes on, those lines are dropped, so that each
step stands in the log once, as it was trained into the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text
from gainwatt.errors import InputError
from gainwatt.parquet import write_table

COLUMNS = {
    "step": "step",
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "frac_reward_zero_std",
    "completions/mean_length": "completion_tokens_mean",
    "completions/min_length": "completion_tokens_min",
    "completions/max_length": "completion_tokens_max",
    "completions/clipped_ratio": "clipped_ratio",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "clip_ratio/region_mean": "clip_ratio",
    "kl": "kl",
    "num_tokens": "tokens_seen",
}
"""TRL's log key -> column of the step log."""


class StepLog:
    """Append-only log of training steps under `folder`, truncated to the step that training goes on from."""

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        self.path = folder / "steps.jsonl"
        self.rows = [row for row in self._read() if row["step"] <= resume_step]
        if len(self.rows) != resume_step:
            raise InputError(
                f"{self.path} holds {len(self.rows)} steps, but training goes on from step {resume_step}",
                f"remove the folder {folder} to train from the start",
            )
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break  # the line that a kill cut short; the steps after it are trained again
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one step and flush it to the disk."""
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def prompt_indices(self) -> list[int]:
        """Index of every prompt used so far, in order, with repeats."""
        return [index for row in self.rows for index in row["prompt_indices"]]

    def write_parquet(self, path: Path) -> None:
        """Write the log as a parquet table, one row per step."""
        write_table(path, self.rows)


def warm_speed(rows: Sequence[dict[str, Any]], num_generations: int) -> dict[str, float | None]:
    """Seconds of a step and rollouts per minute without the first step of each process, whose GPU was cold.

    None where no such step is there. `num_generations`: completions of each prompt.
    """
    warm = [row for row in rows if not row.get("cold")]
    rollout_s = sum(row["rollout_s"] for row in warm)
    rollouts = num_generations * sum(len(row["prompt_indices"]) for row in warm)
    return {
        "step_s_warm_mean": sum(row["step_s"] for row in warm) / len(warm) if warm else None,
        "rollouts_per_min_warm": 60 * rollouts / rollout_s if rollout_s else None,
    }

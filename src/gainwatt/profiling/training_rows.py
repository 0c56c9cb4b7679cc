"""One row per profiled step: what the rollouts were, how many slots idled, and the joules of each part."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.profiling.training_parts import PARTS, STEP

Row = dict[str, Any]
LOGGED = {
    "reward": "reward", "reward_std": "reward_std", "frac_reward_zero_std": "frac_reward_zero_std", "loss": "loss",
    "grad_norm": "grad_norm", "learning_rate": "learning_rate",
}  # fmt: skip
"""TRL's log key -> column; null for a step that ran out of memory, since it trained nothing."""


def eos_trimmed_length(ids: Sequence[int], eos_ids: Collection[int]) -> int:
    """Tokens of a completion up to and with its first end token; all of them where it holds none.

    What stands behind it is padding up to the longest completion of the batch, and no token of this one.
    """
    return next((place + 1 for place, token in enumerate(ids) if token in eos_ids), len(ids))


def slots(lengths: Sequence[int]) -> tuple[int, int]:
    """Slots x steps until the longest of `lengths` ends, and how many of them idle: sum of (longest - length)."""
    longest = max(lengths, default=0)
    return longest * len(lengths), sum(longest - length for length in lengths)


def groups_of(lengths: Sequence[int], group_size: int) -> list[Sequence[int]]:
    """The completions of one prompt each: TRL keeps a group together."""
    return [lengths[start : start + group_size] for start in range(0, len(lengths), group_size)]


def step_row(
    *,
    step: int,
    warmup: bool,
    failure: tuple[str, str] | None,
    timed: Row,
    batches: Sequence[Sequence[int]],
    group_size: int,
    limit: int,
    prompt_tokens: Sequence[int],
    prompt_indices: Sequence[int],
    logs: Row,
) -> Row:
    """The row of one step. `batches`: tokens of every completion, by batch that was generated together."""
    lengths = [length for batch in batches for length in batch]
    together = [slots(batch) for batch in batches]
    grouped = [slots(group) for batch in batches for group in groups_of(batch, group_size)]
    return {
        "step": step,
        "warmup": warmup,
        "status": "ok" if failure is None else "oom",
        "oom_part": failure and failure[0],
        "reason": failure and failure[1],
        **timed,
        "completions": len(lengths),
        "completion_tokens": lengths,
        "padded_tokens": [max(batch) for batch in batches for _ in batch],
        "at_limit": sum(length >= limit for length in lengths),
        "slot_steps": sum(every for every, _ in together),
        "idle_slot_steps": sum(idle for _, idle in together),
        "group_slot_steps": sum(every for every, _ in grouped),
        "group_idle_slot_steps": sum(idle for _, idle in grouped),
        "prompt_tokens_mean": sum(prompt_tokens) / len(prompt_tokens) if prompt_tokens else None,
        "prompt_indices": list(prompt_indices),
        **{column: logs.get(key) if failure is None else None for key, column in LOGGED.items()},
    }


def joules_of(phases: Sequence[Row], occurrences: dict[int, dict[str, int]]) -> dict[int, Row]:
    """Step -> gross and net joules of the step and its parts, and why they are null where they are.

    `phases` are the meter's entries one by one; `occurrences` says which entry of a path belongs to which step.
    """
    entries: dict[tuple[str, int], Row] = {}
    for entry in phases:
        names = entry["path"].split("/")
        if STEP in names[-2:]:
            entries[names[-1], entry["index"]] = entry["energy"]
    found: dict[int, Row] = {}
    for step, numbers in occurrences.items():
        row: Row = {}
        reasons = set()
        for part in (STEP, *PARTS):
            energy = entries.get((part, numbers[part])) if part in numbers else None
            row[f"gross_j_{part}"] = energy and energy["gross_j"]
            row[f"net_j_{part}"] = energy and energy["net_j"]
            if energy is not None:
                reasons |= {energy.get("reason"), energy.get("net_reason")} - {None}
        row["null_reason"] = "; ".join(sorted(map(str, reasons))) or None
        found[step] = row
    return found


class JoulesFile:
    """The joules of steps that earlier processes metered, in a small file beside their checkpoints."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        """Read what is there of the steps up to `resume_step`; later ones are run again."""
        self.path = path
        self.earlier: dict[int, Row] = {}
        if resume_step and path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self.earlier = {int(step): dict(row) for step, row in content.items() if int(step) <= resume_step}
            except (OSError, ValueError, AttributeError, TypeError):
                self.earlier = {}  # the rows then say that their joules are not known

    def keep(self, joules: dict[int, Row]) -> None:
        """Write the joules of all steps so far, whole or not at all."""
        write_json(self.path, {str(step): row for step, row in {**self.earlier, **joules}.items()})


def with_joules(rows: Sequence[Row], joules: dict[int, Row]) -> list[Row]:
    """The rows with their joules beside; null with a reason where the process that metered a step was killed."""
    nothing = {f"{kind}_{part}": None for part in (STEP, *PARTS) for kind in ("gross_j", "net_j")}
    unknown = {**nothing, "null_reason": "metered by a process that was killed before it kept the joules"}
    return [{**row, **joules.get(row["step"], unknown)} for row in rows]

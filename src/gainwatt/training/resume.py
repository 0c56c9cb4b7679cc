"""Find the checkpoint that a killed training run goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path

from gainwatt.atomic import write_text

COMPLETE = "complete"
_SETTINGS = "settings.sha256"


def last_complete(work: Path, settings_sha256: str, *, before: int | None = None) -> Path | None:
    """The newest whole checkpoint under `work` that was made with the same settings and inputs; None to start anew.

    Unfinished checkpoints, those of step `before` or later, and all work of a run with other settings, are removed.
    A trainer that resumes at its very last step trains one step more: a run killed between its last checkpoint and its
    end goes on from the checkpoint before.
    """
    mark = work / _SETTINGS
    if work.exists() and (not mark.exists() or mark.read_text(encoding="utf-8").strip() != settings_sha256):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_text(mark, settings_sha256 + "\n")
    whole = []
    for folder in work.glob("checkpoint-*"):
        if (folder / COMPLETE).exists() and (before is None or step_of(folder) < before):
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """The optimizer step of a checkpoint folder; 0 for None."""
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])

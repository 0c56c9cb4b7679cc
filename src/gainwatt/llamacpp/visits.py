"""Finished visits of an unfinished session: one arm in one round, with its loads and windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.unfinished import UnfinishedWork

Row = dict[str, Any]


class Visits(UnfinishedWork):
    """Visits by (round, arm); a killed session reads them back and goes on with those that are left."""

    def __init__(self, path: Path, identity: str) -> None:
        self.done: dict[tuple[int, str], Row] = {}
        super().__init__(path, identity)

    def take(self, row: Row) -> None:
        """Take up one visit."""
        if row["status"] not in ("ok", "oom", "unavailable") or not isinstance(row["windows"], list):
            raise ValueError("not a visit")
        self.done[int(row["round"]), str(row["arm"])] = row

    def failed(self, arm: str) -> Row | None:
        """The visit in which an arm turned out not to be measurable; None where there is none."""
        return next((row for (_, name), row in self.done.items() if name == arm and row["status"] != "ok"), None)

    def of(self, arm: str) -> list[Row]:
        """The visits of an arm, round by round."""
        return [row for (_, name), row in sorted(self.done.items()) if name == arm]

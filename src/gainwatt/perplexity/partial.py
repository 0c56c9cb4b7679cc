"""Sums of an unfinished measurement of perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.unfinished import UnfinishedWork


class WindowSums(UnfinishedWork):
    """Summed negative log-likelihood (nats) of each window done so far; a killed job reads them back and goes on."""

    def __init__(self, path: Path, identity: str) -> None:
        self.done: dict[int, float] = {}
        self.seconds = 0.0
        super().__init__(path, identity)

    def add(self, sums: dict[int, float], *, seconds: float) -> None:
        """Keep the windows of a finished batch and the seconds that it took."""
        self.append({"sums": list(sums.items()), "seconds": seconds})

    def take(self, row: dict[str, Any]) -> None:
        """Take up the windows of one batch."""
        found = {int(index): float(nll) for index, nll in row["sums"]}
        self.seconds += float(row["seconds"])
        self.done.update(found)

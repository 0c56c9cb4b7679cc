"""Results of an unfinished evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainwatt.engines.base import Completion
from gainwatt.unfinished import UnfinishedWork


class PartialResults(UnfinishedWork):
    """Completions already generated. A killed evaluation reads them back and goes on with the rest.

    Each row holds what finished together, the seconds that the engine worked since the row before, and what
    happened on the way. Work that a kill cut short is done again, and its seconds are not counted.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.done: dict[int, Completion] = {}
        self.seconds = 0.0
        self.events: list[str] = []
        super().__init__(path, identity)

    def add(self, completions: Sequence[Completion], *, seconds: float, events: Sequence[str] = ()) -> None:
        """Keep what has finished: `seconds` of the engine's work, `events` on the way."""
        self.append(
            {"seconds": seconds, "events": list(events), "completions": [asdict(found) for found in completions]}
        )

    def take(self, row: dict[str, Any]) -> None:
        """Take up what finished together."""
        found = [Completion(**values) for values in row["completions"]]
        self.seconds += float(row["seconds"])
        self.events += row["events"]
        self.done.update({completion.index: completion for completion in found})

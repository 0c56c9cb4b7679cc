"""Results of an unfinished evaluation: JSON lines under a header that says which evaluation they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text
from gainwatt.disk import naming
from gainwatt.engines.base import Completion


class PartialResults:
    """Completions already generated. A killed evaluation reads them back and goes on with the rest.

    Each line holds what finished together, the seconds that the engine worked since the line before, and what
    happened on the way. Work that a kill cut short is done again, and its seconds are not counted.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.done: dict[int, Completion] = {}
        self.seconds = 0.0
        self.events: list[str] = []
        header = json.dumps({"identity": identity})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        whole = [header]
        if lines and lines[0] == header:
            for line in lines[1:]:
                try:
                    self._keep(json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    break  # the line that a kill cut short
                whole.append(line)
        # Results of another evaluation, and a line cut short, are dropped here.
        write_text(path, "\n".join(whole) + "\n")

    def add(self, completions: Sequence[Completion], *, seconds: float, events: Sequence[str] = ()) -> None:
        """Keep what has finished, on the disk: `seconds` of the engine's work, `events` on the way."""
        row = {"seconds": seconds, "events": list(events), "completions": [asdict(found) for found in completions]}
        with naming(self.path), self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._keep(row)

    def remove(self) -> None:
        """Forget everything: the record holds the results now."""
        self.path.unlink(missing_ok=True)

    def _keep(self, row: dict[str, Any]) -> None:
        found = [Completion(**values) for values in row["completions"]]
        self.seconds += float(row["seconds"])
        self.events += row["events"]
        self.done.update({completion.index: completion for completion in found})

"""Results of an unfinished evaluation: JSON lines under a header that says which evaluation they belong to."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from gainwatt.atomic import write_text
from gainwatt.disk import naming
from gainwatt.engines.base import Completion


class PartialResults:
    """Completions already generated. A killed evaluation reads them back and goes on with the rest."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.done: dict[int, Completion] = {}
        header = json.dumps({"identity": identity})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and lines[0] == header:
            for line in lines[1:]:
                try:
                    found = Completion(**json.loads(line))
                except (ValueError, TypeError):
                    break  # the line that a kill cut short
                self.done[found.index] = found
        # Results of another evaluation, and a line cut short, are dropped here.
        rows = [json.dumps(asdict(found)) for found in self.done.values()]
        write_text(path, "\n".join([header, *rows]) + "\n")

    def add(self, completions: list[Completion]) -> None:
        """Keep a finished batch and flush it to the disk."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as handle:
            for found in completions:
                self.done[found.index] = found
                handle.write(json.dumps(asdict(found)) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def remove(self) -> None:
        """Forget everything: the record holds the results now."""
        self.path.unlink(missing_ok=True)

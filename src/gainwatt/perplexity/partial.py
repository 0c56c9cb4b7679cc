"""Sums of an unfinished measurement: JSON lines under a header that says which measurement they belong to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gainwatt.atomic import write_text
from gainwatt.disk import naming


class WindowSums:
    """Summed negative log-likelihood (nats) of each window done so far; a killed job reads them back and goes on."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.done: dict[int, float] = {}
        self.seconds = 0.0
        header = json.dumps({"identity": identity})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        whole = [header]
        if lines and lines[0] == header:
            for line in lines[1:]:
                try:
                    self._keep(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    break  # the line that a kill cut short
                whole.append(line)
        write_text(path, "\n".join(whole) + "\n")

    def add(self, sums: dict[int, float], *, seconds: float) -> None:
        """Keep the windows of a finished batch, on the disk, and the seconds that it took."""
        row = {"sums": list(sums.items()), "seconds": seconds}
        with naming(self.path), self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._keep(row)

    def remove(self) -> None:
        """Forget everything: the record holds the results now."""
        self.path.unlink(missing_ok=True)

    def _keep(self, row: dict[str, object]) -> None:
        found = {int(index): float(nll) for index, nll in row["sums"]}  # type: ignore[attr-defined]
        self.seconds += float(row["seconds"])  # type: ignore[arg-type]
        self.done.update(found)

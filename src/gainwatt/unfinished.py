"""What a killed job needs to go on: JSON lines under a header that says which work they belong to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text
from gainwatt.disk import naming


class UnfinishedWork:
    """Rows kept on the disk as they come in; a subclass says by `take` what a row holds.

    Rows of other work, and a last line that a kill cut short, are dropped when the file is opened.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        header = json.dumps({"identity": identity})
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        whole = [header]
        if lines and lines[0] == header:
            for line in lines[1:]:
                try:
                    self.take(json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    break  # the line that a kill cut short
                whole.append(line)
        write_text(path, "\n".join(whole) + "\n")

    def take(self, row: dict[str, Any]) -> None:
        """Take up one row. ValueError, TypeError, KeyError or AttributeError: it is not whole."""
        raise NotImplementedError

    def append(self, row: dict[str, Any]) -> None:
        """Keep one row, on the disk before it counts."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.take(row)

    def remove(self) -> None:
        """Forget everything: the record holds the results now."""
        self.path.unlink(missing_ok=True)

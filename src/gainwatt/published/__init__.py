"""Numbers that others published, kept as small data files with their source, to stand beside ours in tables.

They are cited as published: nothing of them is measured, corrected or averaged here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gainwatt.errors import InputError


@dataclass(frozen=True)
class Published:
    """One source: where it stands, on which machine and model, and its tables (name -> columns and rows)."""

    name: str
    source: str
    machine: str
    model: str
    tables: dict[str, dict[str, Any]]

    def columns(self, table: str) -> list[str]:
        """The columns of a table, by their published names and in the published order."""
        return list(self.tables[table]["columns"])

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table: column -> published value."""
        columns = self.columns(table)
        return [dict(zip(columns, row, strict=True)) for row in self.tables[table]["rows"]]


def published(name: str) -> Published:
    """The numbers of one source. Raises InputError for a source that is not here."""
    file = resources.files("gainwatt.published").joinpath(f"{name}.json")
    if not file.is_file():
        known = sorted(
            entry.name.removesuffix(".json")
            for entry in resources.files("gainwatt.published").iterdir()
            if entry.name.endswith(".json")
        )
        raise InputError(f"there are no published numbers called {name!r}", f"there are: {', '.join(known)}")
    content = json.loads(file.read_text(encoding="utf-8"))
    return Published(name, content["source"], content["machine"], content["model"], content["tables"])

"""For each table and figure the records it came from, and for each record where, when and by which code it was made."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gainwatt.record import Record
from gainwatt.report.column import Column
from gainwatt.report.material import Material
from gainwatt.report.tables import View, make

SHORT = 12
FOLDED = 30
"""More records than this are shown closed."""


@dataclass(frozen=True)
class Source:
    """One table or figure: anchor on the page, name, its file with short hash, the stages, and the records' files."""

    anchor: str
    name: str
    file: str
    sha256: str
    stages: tuple[str, ...]
    records: tuple[str, ...]


def source(
    material: Material, anchor: str, name: str, file: str, sha256: str, stages: Sequence[str], only: Sequence[str] = ()
) -> Source:
    """Where a table or figure came from: the records `only` where given, else all of the stages."""
    records = list(only) or [record["file"] for record in material.of(stages)]
    return Source(anchor, name, file, sha256[:SHORT], tuple(stages), tuple(records))


_RECORD_COLUMNS = (
    Column("stage", "stage", "code"),
    Column("file", "record", "code"),
    Column("sha256", "SHA-256", "hash"),
    Column("status", "status", "status"),
    Column("started_at", "started", "text"),
    Column("commit", "commit", "hash"),
    Column("inputs", "inputs", "text"),
    Column("command", "command", "code"),
)


def record_view(records: Sequence[Record]) -> View:
    """The table of all records: file, hash, status, time, code, inputs and the command that makes it again."""
    rows = [
        {
            "stage": record["stage"],
            "file": record["file"],
            "sha256": record["sha256"],
            "status": record["status"],
            "started_at": str(record.get("started_at") or "")[:16].replace("T", "\u00a0"),
            "commit": (record["environment"].get("git") or {}).get("commit"),
            "inputs": "; ".join(_inputs(record)),
            "command": shlex.join(str(word) for word in record["command"]),
        }
        for record in records
    ]
    view = make("records", "Records", rows, _RECORD_COLUMNS, "Hashes are the first 12 digits of a SHA-256.")
    view.folded = len(rows) > FOLDED
    view.extra = [column.key in ("inputs", "command") for column in _RECORD_COLUMNS]
    return view


def _inputs(record: Record) -> list[str]:
    found = []
    for name, entry in sorted(record["inputs"].items()):
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        if sha256:
            found.append(f"{name} {str(sha256)[:SHORT]}")
    return found

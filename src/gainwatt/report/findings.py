"""What the validator found, what could not be read, what is missing, and what was made with other settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.report.blocks import Block
from gainwatt.report.column import Column
from gainwatt.report.columns import column_of
from gainwatt.report.material import Material
from gainwatt.report.tables import make

SEVERITIES = ("error", "warning", "info")


def counts(material: Material) -> dict[str, int] | None:
    """Findings by severity; None where the validator has not run."""
    table = material.tables.get("validation")
    if table is None:
        return None
    found = Counter(str(row.get("severity")) for row in table.rows)
    return {name: found[name] for name in SEVERITIES}


def findings_blocks(material: Material) -> list[Block]:
    """Findings first, then unreadable, missing and stale records."""
    blocks: list[Block] = []
    table = material.tables.get("validation")
    if table is None:
        blocks.append(Block("message", "The validator has not run: tables/validation.csv is not there; run validate."))
    elif not table.rows:
        blocks.append(Block("text", "The validator found nothing: every expectation is met by every record."))
    else:
        blocks.append(Block("findings", grouped(table.rows)))
    blocks += _problems(material)
    return blocks


@dataclass
class Group:
    """Findings of one expectation with one advice; `entries` are (file, what was found)."""

    severity: str
    check: str
    hint: str
    entries: list[tuple[str, str]] = field(default_factory=list)


def grouped(rows: Sequence[dict[str, Any]]) -> list[Group]:
    """Findings of the same severity, expectation and advice together, errors first."""
    found: dict[tuple[str, str, str], Group] = {}
    for row in rows:
        severity, check, hint = (str(row.get(name) or "") for name in ("severity", "check", "hint"))
        group = found.setdefault((severity, check, hint), Group(severity, check, hint))
        group.entries.append((str(row.get("file") or ""), str(row.get("what") or "")))
    places = {name: place for place, name in enumerate(SEVERITIES)}
    return sorted(found.values(), key=lambda group: places.get(group.severity, len(places)))


def _problems(material: Material) -> list[Block]:
    blocks = []
    if material.problems:
        rows: list[dict[str, Any]] = [{"file": file, "what": what} for file, what in material.problems]
        view = make("problems", "Files that could not be used", rows, [column_of("file"), column_of("what")],
                    "They are left out of everything above.")  # fmt: skip
        blocks.append(Block("table", view))
    if material.missing:
        rows = [{"file": file} for file in material.missing]
        blocks.append(Block("table", make("missing", "Records that are not there yet", rows, [column_of("file")])))
    if material.stale:
        rows = [
            {"path": material.relative(s.path), "setting": s.setting, "recorded": s.recorded, "wanted": s.wanted}
            for s in material.stale
        ]
        columns = [Column("path", "record", "code"), *(column_of(key) for key in ("setting", "recorded", "wanted"))]
        blocks.append(Block("table", make("stale", "Made with other settings than the study has now", rows, columns)))
    return blocks


def differing(material: Material) -> list[str]:
    """Cells whose row in accuracy_matrix.csv is not what the record says: the tables are of other records."""
    rows = {row.get("label"): row for row in material.rows("accuracy_matrix")}
    found = []
    for record in material.records.get("evaluate_gsm8k", []):
        name = f"{record['cell'].get('variant')}.{record['cell'].get('scheme')}"
        row = rows.get(name)
        if (
            row is None
            or row.get("status") != record["status"]
            or row.get("correct") != record["metrics"].get("correct")
        ):
            found.append(name)
    return found if rows else []

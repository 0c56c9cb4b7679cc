"""What a report is made of: records, tables, figures and findings, read without ever giving up on the whole."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gainwatt.errors import GainwattError
from gainwatt.record import Record, file_sha256, read_record
from gainwatt.report.columns import KNOWN
from gainwatt.study import Layout, Study
from gainwatt.tables.stale import Freshness, Stale
from gainwatt.workflow import every_record

Row = dict[str, Any]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class Table:
    """One CSV file, its numbers read as numbers where the whole column is."""

    name: str
    columns: list[str]
    rows: list[Row]
    sha256: str
    numeric: frozenset[str]


@dataclass
class Material:
    """Everything that the pages of one study show. What could not be read is named in `problems`."""

    study: Study
    layout: Layout
    study_file: str
    records: dict[str, list[Record]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study, layout: Layout, study_file: str) -> Material:
        """Read all that is there; raises nothing for a file that is missing or cannot be read."""
        found = cls(study, layout, study_file)
        found._read_records()
        found._read_tables()
        found._read_figures()
        return found

    def relative(self, path: Path | str) -> str:
        """A path as the report names it: within the study's results folder."""
        path = Path(path)
        return str(path.relative_to(self.layout.results)) if path.is_relative_to(self.layout.results) else str(path)

    def all_records(self) -> Iterator[Record]:
        """Every record, by stage and name."""
        for records in self.records.values():
            yield from records

    def of(self, stages: Sequence[str]) -> list[Record]:
        """Records of some stages; of every stage for `*`."""
        return [r for r in self.all_records() if "*" in stages or r["stage"] in stages]

    def rows(self, name: str) -> list[Row]:
        """Rows of a table, none where it is not there."""
        return self.tables[name].rows if name in self.tables else []

    def _read_records(self) -> None:
        freshness = Freshness(self.study)
        for path in sorted((self.layout.results / "records").glob("*/*.json")):
            shown = self.relative(path)
            try:
                record = read_record(path, stage=path.parent.name)
                if record["study"] != self.study.study:
                    self.problems.append((shown, f"it belongs to the study {record['study']!r}"))
                    continue
                record |= {"path": str(path), "file": shown, "sha256": file_sha256(path)}
                self.stale += _differences(freshness, record)
            except (GainwattError, OSError) as error:
                what = error.what if isinstance(error, GainwattError) else str(error)
                self.problems.append((shown, what.replace(str(path), shown)))
                continue
            record["phases"] = [phase for phase in record["phases"] if phase.get("depth") == 0]
            self.records.setdefault(record["stage"], []).append(record)
        there = {record["file"] for record in self.all_records()} | {shown for shown, _ in self.problems}
        wanted = [self.relative(path) for path in every_record(self.study, self.layout)]
        self.missing = [path for path in wanted if path not in there]

    def _read_tables(self) -> None:
        for path in sorted(self.layout.tables.glob("*.csv")):
            try:
                self.tables[path.stem] = read_table(path)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                self.problems.append((self.relative(path), f"it cannot be read as a table: {error}"))

    def _read_figures(self) -> None:
        path = self.layout.figures / "index.json"
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self.problems.append((self.relative(path), f"it cannot be read: {error}"))
            return
        if isinstance(index, dict):
            self.figures = {name: entry for name, entry in index.items() if isinstance(entry, dict)}


def _differences(freshness: Freshness, record: Record) -> list[Stale]:
    try:
        return freshness.differences(record)
    except KeyError:  # a stage whose settings the study does not name
        return []


def read_table(path: Path) -> Table:
    """Read a CSV file; a column is numeric where every value is a number or empty, unless it is known to be text."""
    content = path.read_bytes()
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    raw = [row for row in reader if None not in row]
    columns = list(reader.fieldnames or [])
    numeric = frozenset(name for name in columns if _is_numeric(name, raw))
    rows = [{name: _value(row.get(name), name in numeric) for name in columns} for row in raw]
    return Table(path.stem, columns, rows, hashlib.sha256(content).hexdigest(), numeric)


def _is_numeric(name: str, rows: list[dict[str, str]]) -> bool:
    if name in KNOWN:
        return KNOWN[name].numeric
    if name.endswith("sha256"):
        return False
    return all(not row[name] or _NUMBER.fullmatch(row[name]) for row in rows)


def _value(text: str | None, numeric: bool) -> Any:
    if not text:
        return None
    if text in ("True", "False"):
        return text == "True"
    if not numeric or not _NUMBER.fullmatch(text):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)

"""A table as the page shows it: headings with units, texts and sort keys of cells, long reasons as numbered notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.report import formats
from gainwatt.report.column import Column
from gainwatt.report.columns import KNOWN, column_of
from gainwatt.report.material import Row, Table
from gainwatt.report.specs import TableSpec

MAX_ROWS = 500


@dataclass(frozen=True)
class Cell:
    """Text of a cell, what it is sorted by, its kind and, for a note, the note's number."""

    text: str
    sort: str
    kind: str
    note: int = 0


@dataclass
class View:
    """One table of the page."""

    key: str
    title: str
    help: str
    columns: list[Column]
    extra: list[bool]
    rows: list[list[Cell]]
    extra_rows: list[bool]
    notes: list[str] = field(default_factory=list)
    source: str = ""
    sha256: str = ""
    stages: tuple[str, ...] = ()
    left_out: int = 0
    transposed: bool = False
    folded: bool = False

    @property
    def has_extra(self) -> bool:
        """Whether some columns or rows are shown on demand only."""
        return any(self.extra) or any(self.extra_rows)


def view(spec: TableSpec, table: Table) -> View:
    """The table as `spec` wants it: its columns first, the others on demand (or not at all)."""
    chosen = [_column(key, table) for key in spec.columns if key in table.columns]
    if not chosen:
        chosen = _without_upper_ends([_column(key, table) for key in table.columns])
    used = {key for column in chosen for key in column.keys}
    others = [] if spec.only else [_column(key, table) for key in table.columns]
    hidden = [column for column in chosen if _is_empty(column, table) and not spec.transposed]
    chosen = [column for column in chosen if column not in hidden]
    extra = [column for column in _without_upper_ends(others) if not set(column.keys) & used]
    extra = hidden + extra
    made = make(spec.key, spec.title, table.rows, [*chosen, *extra], spec.help)
    made.extra = [False] * len(chosen) + [True] * len(extra)
    made.source, made.sha256, made.stages, made.folded = table.name, table.sha256, spec.stages, spec.folded
    return transposed(made, table) if spec.transposed and table.rows else made


def _column(key: str, table: Table) -> Column:
    """The column for `key`; two ends of an interval (x_low, x_high) that nobody described become one column."""
    high = key.removesuffix("_low") + "_high"
    if key in KNOWN or not key.endswith("_low") or high not in table.columns:
        return column_of(key, numeric=key in table.numeric)
    middle = column_of(key.removesuffix("_low"))
    return Column(key, f"{middle.label}, interval", middle.kind, middle.unit, high=high)


def _is_empty(column: Column, table: Table) -> bool:
    """Whether no row has a value; a missing energy stays in sight, beside its reason."""
    return column.unit != "J" and all(row.get(column.key) is None for row in table.rows)


def _without_upper_ends(columns: list[Column]) -> list[Column]:
    ends = {column.high for column in columns if column.high}
    return [column for column in columns if column.key not in ends]


def make(key: str, title: str, rows: Sequence[Row], columns: Sequence[Column], help_text: str = "") -> View:
    """A table of given columns; at most MAX_ROWS rows."""
    notes: list[str] = []
    shown = [[_cell(row, column, notes) for column in columns] for row in rows[:MAX_ROWS]]
    return View(
        key, title, help_text, list(columns), [False] * len(columns), shown, [False] * len(shown), notes,
        left_out=max(0, len(rows) - MAX_ROWS),
    )  # fmt: skip


def _cell(row: Row, column: Column, notes: list[str]) -> Cell:
    value = row.get(column.key)
    if column.kind == "note":
        return _note(value, notes)
    if column.high:
        high = row.get(column.high)
        if not (formats.is_number(value) and formats.is_number(high)):
            return Cell(formats.NULL, "", column.kind)
        low_text, high_text = formats.show(value, column.kind), formats.show(high, column.kind)
        return Cell(f"[{low_text}, {high_text}]", repr(value), column.kind)
    return Cell(formats.show(value, column.kind), _sort_key(value), column.kind)


def _note(value: Any, notes: list[str]) -> Cell:
    if value in (None, ""):
        return Cell("", "", "note")
    text = formats.in_prose(str(value))
    if text not in notes:
        notes.append(text)
    number = notes.index(text) + 1
    return Cell(str(number), str(number), "note", number)


def _sort_key(value: Any) -> str:
    """What the page sorts by: the number with all digits, the text, nothing for null."""
    if value is None:
        return ""
    return repr(value) if formats.is_number(value) else str(value)


def transposed(made: View, table: Table) -> View:
    """One column per row of the table and one row per quantity: for few rows with many columns.

    Text columns in front (variant, checkpoint, status) become the headings.
    """
    head = [i for i, column in enumerate(made.columns) if not column.numeric]
    body = [i for i, column in enumerate(made.columns) if column.numeric]
    names = [" ".join(row[i].text for i in head if row[i].text not in ("", "ok", "dense")) for row in made.rows]
    columns = [Column("quantity", "quantity", "text"), *(Column(f"c{n}", name) for n, name in enumerate(names))]
    rows = []
    for i in body:
        column = made.columns[i]
        label = column.label + (f" ({column.unit})" if column.unit else "")
        rows.append([Cell(label, label, "text"), *(row[i] for row in made.rows)])
    made.columns, made.extra, made.rows = columns, [False] * len(columns), rows
    made.extra_rows = [all(cell.text == formats.NULL for cell in row[1:]) for row in rows]
    made.transposed = True
    return made

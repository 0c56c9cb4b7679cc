"""Rows to CSV and Markdown: the same rows give the same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text

Row = dict[str, Any]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every key of the rows, in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def to_csv(rows: Sequence[Row], names: Sequence[str] = ()) -> str:
    """CSV with a header; numbers to 10 significant digits, null as an empty field.

    `names` is the header where there are no rows.
    """
    out = io.StringIO()
    names = columns_of(rows) or names
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(row.get(name)) for name in names])
    return out.getvalue()


def to_markdown(rows: Sequence[Row], names: Sequence[str] | None = None) -> str:
    """A Markdown table; numbers to 4 significant digits, null as an en dash."""
    names = list(names or columns_of(rows))
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join(" --- " for _ in names) + "|"]
    lines += ["| " + " | ".join(_short(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, rows: Sequence[Row], names: Sequence[str] = ()) -> None:
    """Write rows as CSV, whole or not at all; `names` is the header where there are no rows."""
    write_text(path, to_csv(rows, names))


def write_json_lines(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON, one a line, whole or not at all; no file where there are no rows."""
    if rows:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        path.unlink(missing_ok=True)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, ".10g")
    return str(value)


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return format(value, ".4g")
    return str(value).replace("|", "\\|").replace("\n", " ")

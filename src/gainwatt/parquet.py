"""Tables beside a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as parquet, whole or not at all.

    The columns are those of any row, in the order of their first appearance; what a row lacks is null. A column
    without values is float64.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        empty = all(value is None for value in values)
        columns[name] = pa.array(values, type=pa.float64() if empty else None)
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns), temporary, compression="zstd")

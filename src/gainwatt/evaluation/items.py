"""The per-item table beside a record: what was asked, answered, parsed, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path

COLUMNS = {
    "index": "int64",
    "prompt_sha256": "string",
    "question": "string",
    "gold": "string",
    "text": "string",
    "answer": "string",
    "branch": "string",
    "correct": "bool",
    "strict_match": "bool",
    "flexible_match": "bool",
    "leak": "bool",
    "format_compliant": "bool",
    "tokens": "int64",
    "finish_reason": "string",
    "latency_s": "double",
    "batch_size": "int64",
}
"""Columns and types, the same for every engine; see `gainwatt.engines.base.Completion` for what an engine tells."""


def write_items(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of `gainwatt.evaluation.metrics.item_rows` as parquet, whole or not at all."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {"bool": pa.bool_(), "double": pa.float64(), "int64": pa.int64(), "string": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with atomic_path(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary, compression="zstd")

"""The log of requests on the disk: a parquet file when a load is over, lines as they come in meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path
from gainwatt.disk import naming
from gainwatt.errors import InputError
from gainwatt.serving.requests import RequestLog
from gainwatt.unfinished import UnfinishedWork

COLUMNS = {
    "id": "int64",
    "status": "string",
    "scheduled_ns": "int64",
    "sent_ns": "int64",
    "ended_ns": "int64",
    "chunk_ns": "list",
    "chunk_tokens": "list",
    "tokens": "int64",
    "tokens_from": "string",
    "prompt_tokens": "int64",
    "finish_reason": "string",
    "error_kind": "string",
    "error": "string",
    "reused": "bool",
    "slip_ms": "double",
    "ttft_ms": "double",
    "tpot_ms": "double",
    "e2e_ms": "double",
}
"""Columns and types; the last four follow from the others and are there for who reads the file by itself."""

_STORED = tuple(item.name for item in fields(RequestLog))


def write_request_log(path: Path, log: Sequence[RequestLog]) -> None:
    """Write one row per request (columns: `COLUMNS`, times in ns of the monotonic clock), whole or not at all."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "int64": pa.int64(), "double": pa.float64(), "string": pa.string(), "bool": pa.bool_(),
        "list": pa.list_(pa.int64()),
    }  # fmt: skip
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    rows = [{name: getattr(row, name) for name in COLUMNS} for row in log]
    with atomic_path(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")


def read_request_log(path: Path) -> list[RequestLog]:
    """Read what `write_request_log` wrote. Raises InputError for a file that is missing, cut short or another one."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # read_table would import pyarrow.dataset, and with it pandas where that is installed.
        rows = parquet.ParquetFile(path).read(columns=list(_STORED)).to_pylist()
        return [RequestLog(**row) for row in rows]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise InputError(f"no request log in {path}: {error}", "run the load again") from None


class RequestJournal(UnfinishedWork):
    """Requests kept as they end, so that a kill in the middle of a load leaves what was measured until then.

    `earlier`: what a killed attempt at the same work had kept; `log`: what has ended since. A load is not continued in
    the middle, since its server was never as full as it was meant to be: the earlier rows are for the reader.

    Lines go to the system at once but are not forced to the disk: that takes milliseconds, which the schedule of the
    load does not have. They outlive a killed process, not a machine without power.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.earlier: list[RequestLog] = []
        self.log: list[RequestLog] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, identity)
        with naming(path):
            self._handle = path.open("a", encoding="utf-8")

    def take(self, row: dict[str, Any]) -> None:
        """Take up one request of an earlier attempt."""
        self.earlier.append(RequestLog(**row))

    def on_event(self, kind: str, row: RequestLog) -> None:
        """To be given to `run_load`: keeps each request that has ended."""
        if kind == "ended":
            with naming(self.path):
                self._handle.write(json.dumps(asdict(row)) + "\n")
                self._handle.flush()
            self.log.append(row)

    def close(self) -> None:
        """Close the file; it stays until `remove`."""
        self._handle.close()

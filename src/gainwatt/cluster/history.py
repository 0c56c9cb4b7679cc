"""What earlier jobs took: seconds, GPUs, joules and bytes, from their records."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record, read_record
from gainwatt.tables.write import Row, write_csv

GPU_BOARD = "gpu_board"


@dataclass(frozen=True)
class Past:
    """One job that has a record. `seconds` is wall time from its first to its last line; null where not measured."""

    study: str
    stage: str
    cell: str
    settings: str
    seconds: float | None
    gpus: int
    gross_j: float | None
    net_j: float | None
    kept_bytes: int
    weight_bytes: int | None


def finish(rows: list[Row], refused: Iterable[str], out: Path | None) -> None:
    """Name the records that were left out, and write the table as CSV where that was asked for."""
    for what in refused:
        print(f"left out: {what}")
    if out is not None:
        write_csv(out, rows)


def read_past(folders: Iterable[Path]) -> tuple[list[Past], list[str]]:
    """Jobs under results folders (each holds records/<stage>/<cell>.json), and why some files were left out."""
    found, refused = [], []
    for folder in folders:
        for path in sorted(folder.glob("records/*/*.json")):
            try:
                found.append(past(read_record(path), path.stem))
            except RecordError as error:
                refused.append(error.what)
    return found, refused


def past(record: Record, cell: str) -> Past:
    """What one record says of its job."""
    energy, outputs = record["energy"], record["outputs"]
    boards = [device for device in energy.get("devices", []) if device.get("boundary") == GPU_BOARD]
    return Past(
        study=record["study"],
        stage=record["stage"],
        cell=cell,
        settings=str(record["inputs"].get("settings", {}).get("sha256")),
        seconds=_seconds(record),
        gpus=len(boards),
        gross_j=energy.get("gross_j"),
        net_j=energy.get("net_j"),
        kept_bytes=sum(int(output.get("bytes") or 0) for output in outputs.values()),
        weight_bytes=outputs.get("checkpoint", {}).get("bytes"),
    )


def _seconds(record: dict[str, Any]) -> float | None:
    try:
        started, ended = (datetime.datetime.fromisoformat(record[key]) for key in ("started_at", "ended_at"))
    except (KeyError, ValueError):
        return None
    return (ended - started).total_seconds()

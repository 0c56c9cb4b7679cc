"""The record: one JSON file per cell, written whole, read with suspicion.

kind            "gainwatt-record"
schema_version  of this file's layout; a reader refuses any other
stage, study    what was run, for which study
cell            what was measured: variant, scheme, ...
status, reason  ok | oom | unavailable | failed (what was measured until then is kept), and why where it is not ok
metrics         numbers with the unit in the name; null where not measured
null_reasons    metric -> why it is null
settings        every setting in force, generation settings included
inputs          what decides the result, each with its SHA-256
outputs         files written beside the record, each with its SHA-256
phases, energy  where the seconds and the joules went
environment     read from the machine
command         the command that makes this record again
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.errors import RecordError

KIND = "gainwatt-record"
SCHEMA_VERSION = 1
STATUSES = ("ok", "oom", "unavailable", "failed")
_REQUIRED = {
    "stage": str,
    "study": str,
    "cell": dict,
    "status": str,
    "metrics": dict,
    "null_reasons": dict,
    "settings": dict,
    "inputs": dict,
    "outputs": dict,
    "phases": list,
    "energy": dict,
    "environment": dict,
    "command": list,
}

Record = dict[str, Any]


def write_record(path: Path | str, record: Record) -> None:
    """Write a record atomically. Raises RecordError when a metric is not finite or is null without a reason."""
    for name, value in record["metrics"].items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RecordError(f"{path}: the metric {name} is {value}", "record null with a reason instead")
        if value is None and name not in record["null_reasons"]:
            raise RecordError(f"{path}: the metric {name} is null and no reason is given", "give the reason")
    try:
        write_json(path, {"kind": KIND, "schema_version": SCHEMA_VERSION, **record})
    except ValueError as error:
        raise RecordError(
            f"{path}: a value of the record is no JSON value: {error}", "record null with a reason instead"
        ) from error


def read_record(path: Path | str, *, stage: str | None = None) -> Record:
    """Read and check a record. Raises RecordError that names the file: missing, truncated, foreign, other schema."""
    path = Path(path)
    again = "remove it and run the rule that makes it again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise RecordError(f"the record {path} does not exist", "run the rule that makes it") from error
    except OSError as error:
        raise RecordError(f"cannot read the record {path}: {error.strerror}", "check the file's permissions") from error
    except ValueError as error:
        raise RecordError(f"the record {path} is truncated or not JSON: {error}", again) from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise RecordError(f"{path} is not a gainwatt record", "give a file that a gainwatt script wrote")
    if record.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"the record {path} has schema version {record.get('schema_version')}, this code reads {SCHEMA_VERSION}",
            "make it again with this version, or read it with the version that wrote it",
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(record.get(key), kind):
            raise RecordError(f"the record {path} lacks a usable {key!r}", again)
    if record["status"] not in STATUSES:
        raise RecordError(f"the record {path} has the unknown status {record['status']!r}", again)
    if stage is not None and record["stage"] != stage:
        raise RecordError(f"the record {path} is of stage {record['stage']!r}, not {stage!r}", "check the path")
    return record


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that a record may hold")


def read_records(folder: Path | str, stage: str) -> list[Record]:
    """All records of one stage under `<folder>/<stage>/`, sorted by file name; each knows its `path`."""
    found = []
    for path in sorted((Path(folder) / stage).glob("*.json")):
        record = read_record(path, stage=stage)
        record["path"] = str(path)
        found.append(record)
    return found


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()

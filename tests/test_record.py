"""A record is written only when it is whole, and read only when it can be trusted."""

from __future__ import annotations

import hashlib
import json

import pytest

from factories import base_record
from gainwatt.errors import RecordError
from gainwatt.record import file_sha256, read_record, read_records, text_sha256, write_record


@pytest.fixture
def record(study):
    return base_record(study, "quantize", {"variant": "base"}, metrics={"bytes": 4, "ratio": 0.5})


def test_round_trip(record, tmp_path):
    path = tmp_path / "r.json"
    write_record(path, record)
    read = read_record(path, stage="quantize")
    assert read == {"kind": "gainwatt-record", "schema_version": 1, **json.loads(json.dumps(record))}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_not_finite_is_refused(record, tmp_path, value):
    record["metrics"]["loss"] = value
    with pytest.raises(RecordError, match="the metric loss is"):
        write_record(tmp_path / "r.json", record)
    assert not (tmp_path / "r.json").exists()


def test_nan_anywhere_else_is_refused(record, tmp_path):
    record["energy"]["gross_j"] = float("nan")
    with pytest.raises(RecordError, match=r"r\.json"):
        write_record(tmp_path / "r.json", record)
    assert list(tmp_path.glob("r*")) == []


def test_null_needs_a_reason(record, tmp_path):
    record["metrics"]["peak_mib"] = None
    with pytest.raises(RecordError, match="peak_mib is null and no reason"):
        write_record(tmp_path / "r.json", record)
    record["null_reasons"]["peak_mib"] = "no GPU"
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json")["metrics"]["peak_mib"] is None


def broken(tmp_path, record, change):
    path = tmp_path / "r.json"
    write_record(path, record)
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(change(content)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {**r, "kind": "other"}, "is not a gainwatt record"),
        (lambda r: [r], "is not a gainwatt record"),
        (lambda r: {**r, "schema_version": 0}, "has schema version 0, this code reads 1"),
        (lambda r: {k: v for k, v in r.items() if k != "schema_version"}, "has schema version None"),
        (lambda r: {k: v for k, v in r.items() if k != "inputs"}, "lacks a usable 'inputs'"),
        (lambda r: {**r, "metrics": []}, "lacks a usable 'metrics'"),
        (lambda r: {**r, "status": "fine"}, "unknown status 'fine'"),
        (lambda r: {**r, "metrics": {"a": float("nan")}}, "NaN is no number"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_named(record, tmp_path, change, message):
    path = broken(tmp_path, record, change)
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert str(path) in caught.value.what
    assert caught.value.hint


def test_missing_truncated_binary_and_unreadable(record, tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(RecordError, match=r"r\.json does not exist"):
        read_record(path)
    write_record(path, record)
    whole = path.read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(RecordError, match=r"r\.json is truncated or not JSON"):
            read_record(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="truncated or not JSON"):
        read_record(path)
    with pytest.raises(RecordError, match="cannot read the record"):
        read_record(tmp_path)


def test_another_stage_is_refused(record, tmp_path):
    write_record(tmp_path / "r.json", record)
    with pytest.raises(RecordError, match="is of stage 'quantize', not 'train_grpo'"):
        read_record(tmp_path / "r.json", stage="train_grpo")


def test_records_of_a_stage_in_order(record, tmp_path):
    for name in ("b", "a"):
        write_record(tmp_path / "quantize" / f"{name}.json", record)
    found = read_records(tmp_path, "quantize")
    assert [entry["path"] for entry in found] == [str(tmp_path / "quantize" / f"{name}.json") for name in "ab"]
    assert read_records(tmp_path, "absent") == []


def test_hashes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest() == text_sha256("abc")

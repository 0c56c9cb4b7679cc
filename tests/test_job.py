"""A job leaves a record that says how it ended, or none."""

from __future__ import annotations

import json

import pytest
import torch

from gainwatt.errors import InputError, UnavailableError
from gainwatt.job import Job
from gainwatt.record import file_sha256, read_record


@pytest.fixture
def job(study, tmp_path):
    def make(**options):
        cell = {"variant": "base", "scheme": "fp32"}
        return Job(stage="evaluate_gsm8k", cell=cell, study=study, record=tmp_path / "r" / "base.json", **options)

    return make


def test_ok(job, study, tmp_path):
    with job() as running:
        with running.phase("load"):
            pass
        with running.phase("generate"), running.phase("inner"):
            running.metrics["accuracy"] = 0.5
        running.null("peak_mib", "no GPU")
        running.add_input("data", "d" * 64, items=3)
        (tmp_path / "r").mkdir(exist_ok=True)
        (tmp_path / "r" / "base.items.parquet").write_bytes(b"rows")
        running.add_output("items", tmp_path / "r" / "base.items.parquet")
    record = read_record(tmp_path / "r" / "base.json", stage="evaluate_gsm8k")
    assert (record["status"], record["reason"], record["study"]) == ("ok", None, "tiny")
    assert record["cell"] == {"variant": "base", "scheme": "fp32"}
    assert record["metrics"] == {"accuracy": 0.5, "peak_mib": None}
    assert record["null_reasons"] == {"peak_mib": "no GPU"}
    assert [(p["path"], p["depth"]) for p in record["phases"]] == [("load", 0), ("generate", 0), ("generate/inner", 1)]
    assert record["inputs"]["settings"]["sha256"] == study.settings_sha256("evaluate_gsm8k")
    assert record["inputs"]["data"] == {"sha256": "d" * 64, "items": 3}
    entry = record["outputs"]["items"]
    assert entry["sha256"] == file_sha256(tmp_path / "r" / "base.items.parquet")
    assert (entry["file"], entry["bytes"]) == ("base.items.parquet", 4)
    assert record["settings"] == json.loads(json.dumps(study.settings("evaluate_gsm8k")))
    assert record["command"][0] == "python"
    assert record["started_at"] <= record["ended_at"]


def test_energy_is_a_number_or_a_reason(job, tmp_path):
    with job() as running, running.phase("work"):
        pass
    energy = read_record(tmp_path / "r" / "base.json")["energy"]
    for name in ("gross_j", "net_j"):
        assert energy[name] is not None or energy["null_reasons"][name]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"), "oom", "CUDA out of memory. Tried"),
        (MemoryError(), "oom", "MemoryError"),
        (UnavailableError("no vllm here", "make env NAME=vllm"), "unavailable", "no vllm here"),
    ],
)
def test_out_of_memory_and_missing_capabilities_are_results(job, tmp_path, capsys, error, status, reason):
    with job() as running, running.phase("load"):
        running.metrics["bytes"] = 3
        raise error
    record = read_record(tmp_path / "r" / "base.json")
    assert record["status"] == running.status == status
    assert record["reason"].startswith(reason)
    assert "\n" not in record["reason"] or status == "unavailable"
    assert record["metrics"] == {"bytes": 3}
    assert record["phases"][0]["error"] == type(error).__name__
    assert status in capsys.readouterr().err


@pytest.mark.parametrize("error", [InputError("bad"), RuntimeError("bug"), KeyboardInterrupt()])
def test_any_other_exception_leaves_no_record(job, tmp_path, error):
    def run():
        with job() as running:
            running.on_written((tmp_path / "ran").touch)
            raise error

    with pytest.raises(type(error)):
        run()
    assert list(tmp_path.glob("r/*")) == []
    assert not (tmp_path / "ran").exists()


def test_an_earlier_record_survives_a_crash(job, tmp_path):
    with job() as running:
        running.metrics["n"] = 1

    def crash():
        with job():
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        crash()
    assert read_record(tmp_path / "r" / "base.json")["metrics"] == {"n": 1}


def test_an_inactive_job_writes_nothing(job, tmp_path, capsys):
    with job(active=False) as running, running.phase("work"):
        running.on_written((tmp_path / "ran").touch)
    with job(active=False):
        raise MemoryError
    assert list(tmp_path.glob("r/*")) == []
    assert not (tmp_path / "ran").exists()
    assert capsys.readouterr().err == ""

    def crash():
        with job(active=False):
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        crash()


def test_actions_run_once_the_record_is_there(job, tmp_path):
    seen = []
    with job() as running:
        running.on_written(lambda: seen.append((tmp_path / "r" / "base.json").exists()))
        assert seen == []
    assert seen == [True]


def test_a_trace_of_an_earlier_run_is_removed(job, tmp_path):
    (tmp_path / "r").mkdir()
    trace = tmp_path / "r" / "base.trace.parquet"
    trace.write_bytes(b"old")
    with job() as running:
        pass
    if "trace" in running.outputs:  # a machine with a meter writes its own
        assert file_sha256(trace) == running.outputs["trace"]["sha256"]
    else:
        assert not trace.exists()


def test_the_log_begins_with_the_command(job, capsys):
    with job():
        pass
    assert capsys.readouterr().err.startswith("command: ")


def test_energy_of_a_process_that_was_stopped_is_named_by_the_next(job, tmp_path):
    journal = tmp_path / "work" / "energy.json"

    def be_killed():
        with job() as running:
            running.keep_energy(journal, "same work")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        be_killed()
    assert journal.exists()
    with job() as running:
        running.keep_energy(journal, "same work")
    earlier = read_record(tmp_path / "r" / "base.json")["energy"]["earlier_segments"]
    assert (earlier["count"], earlier["complete"]) == (1, True)
    assert earlier["segments"][0]["seconds"] > 0
    assert not journal.exists()
    with job() as running:
        running.keep_energy(journal, "same work")
    assert "earlier_segments" not in read_record(tmp_path / "r" / "base.json")["energy"]

"""Two processes never make the same record at once, and a killed one leaves no lock behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from factories import ROOT
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.lock import RecordLock

HOLD = """
import sys
from pathlib import Path
from gainwatt.lock import RecordLock
lock = RecordLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/r/cell.json."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "r" / "cell.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_holds_it(holder, tmp_path):
    with pytest.raises(InputError, match=rf"cell\.json is being made by process {holder.pid} on .* since ") as caught:
        RecordLock(tmp_path / "r" / "cell.json").acquire()
    assert "the same command again" in caught.value.hint
    RecordLock(tmp_path / "r" / "other.json").acquire()


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    lock = RecordLock(tmp_path / "r" / "cell.json")
    assert lock.path.exists()
    lock.acquire()
    assert f"process {os.getpid()} " in lock.path.read_text()
    lock.release()
    lock.release()
    assert not lock.path.exists()


def test_a_lock_on_a_removed_file_does_not_count(tmp_path, monkeypatch):
    """Between opening and locking, the holder may remove the file: then the next file is locked instead."""
    lock, real, calls = RecordLock(tmp_path / "cell.json"), fcntl.flock, []

    def flock(handle, how):
        if not calls:
            lock.path.unlink()
        calls.append(how)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock.acquire()
    assert len(calls) == 2
    assert lock.path.exists()
    lock.release()


def test_a_file_system_without_locks_does_not_stop_the_work(tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = RecordLock(tmp_path / "cell.json")
    lock.acquire()
    lock.release()
    assert not lock.path.exists()


def test_a_job_holds_the_lock_from_its_start_to_its_end(study, tmp_path):
    record = tmp_path / "r" / "base.json"
    options = {"stage": "evaluate_gsm8k", "cell": {"variant": "base"}, "study": study, "record": record}
    with Job(**options):
        with pytest.raises(InputError, match=f"is being made by process {os.getpid()} "):
            Job(**options).__enter__()
        assert not record.exists()
    assert [path.name for path in record.parent.iterdir()] == ["base.json"]


def test_a_job_that_fails_gives_the_lock_back(study, tmp_path):
    record = tmp_path / "r" / "base.json"
    with (
        pytest.raises(InputError, match="bad"),
        Job(stage="evaluate_gsm8k", cell={"variant": "base"}, study=study, record=record),
    ):
        raise InputError("bad")
    assert list(record.parent.iterdir()) == []

"""The workflow itself: a second run beside a first, and what is left of a killed one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from factories import ROOT

STOP = "os.rename data/test.jsonl"
ASKED = ("fetch", "--cores", "1", "--rerun-incomplete", "--config", "study=study.yaml", 'set=["model.source=embedded"]')


@pytest.fixture
def working(fresh):
    """The workflow's files beside the study: Snakemake keeps its locks where it runs."""
    for name in ("Snakefile", "workflow", "scripts", "src", "envs"):
        (fresh.folder / name).symlink_to(ROOT / name)
    return fresh


def start(place, *options, at=None):
    """Snakemake in a session of its own; with `at` its job stops (SIGSTOP) at its at-th change of a file."""
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *ASKED, *options], cwd=place.folder,
        env=place.settings(at=at, signal="SIGSTOP") if at else place.settings(at=None, signal=""),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process):
    text, _ = process.communicate(timeout=60)
    return process.returncode, text


def members(session):
    """Processes of a session that still run."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            fields = open(f"/proc/{int(name)}/stat").read().rpartition(")")[2].split()  # noqa: SIM115
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(name))
    return found


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def stopped(working):
    """A workflow whose job has stopped in the middle of its work; every process of it is ended at the end."""
    process = start(working, at=STOP)
    wait_for(lambda: list(working.results.glob("data/.*.tmp")) or process.poll() is not None, "the job wrote nothing")
    assert process.poll() is None, process.communicate()[0]
    yield working, process
    for pid in members(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.faults
def test_a_second_run_and_a_killed_one(stopped):
    place, first = stopped
    code, text = finish(start(place))
    assert code == 1
    assert "Directory cannot be locked" in text
    assert "no other Snakemake process" in text

    os.killpg(first.pid, signal.SIGKILL)
    wait_for(lambda: not members(first.pid), "a process outlived the kill of its group")
    code, text = finish(start(place))
    assert code == 1
    assert "the remaining lock was likely caused by a kill signal or a power loss" in text
    assert "--unlock" in text
    assert finish(start(place, "--unlock"))[0] == 0

    code, text = finish(start(place))
    assert code == 0, text
    assert {path.name for path in (place.results / "data").iterdir()} == {
        f"{split}.jsonl" for split in ("sft", "train", "validation", "test")
    }
    assert not [name for name in place.files() if name.endswith((".tmp", ".lock"))]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_whole_run_leaves_no_process(working, number):
    """Ctrl-C in a terminal, and a cluster's time limit, reach every process of a run."""
    process = start(working, at=STOP)
    wait_for(lambda: list(working.results.glob("data/.*.tmp")), "the job wrote nothing")
    os.killpg(process.pid, number)
    os.killpg(process.pid, signal.SIGCONT)
    code, text = finish(process)
    assert code != 0, text
    wait_for(lambda: not members(process.pid), "a process was left behind")
    assert not [name for name in working.files() if name.endswith((".tmp", ".lock"))]
    code, text = finish(start(working))
    assert code == 0, text

"""A training on several GPUs of which one process runs out of memory: a result, and no process is left waiting."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest

from factories import script_main, write_study
from gainwatt.errors import UnavailableError
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study
from gainwatt.training import launch


@pytest.fixture
def study(tmp_path):
    train = {"seeds": [0], "gradient_accumulation_steps": 24}
    return load_study(write_study(tmp_path, {"resources": {"train": {"gpus": 2}}, "train": train}))


@pytest.fixture
def scripted(study, tmp_path, monkeypatch):
    """Run the launcher with a program instead of accelerate and the training script."""

    def run(training: str) -> int:
        monkeypatch.setattr(launch, "training_command", lambda *_: [sys.executable, "-c", training])
        log = tmp_path / "logs" / "grpo-s0.log"
        return launch.run(study, launch.Plan(["0", "1"], []), model=tmp_path, log=log, environ=os.environ)

    return run


def noting(tmp_path, **notes: str) -> str:
    """A training of which some processes have ended with a result, and which has failed for that."""
    lines = [
        f"open({str(launch.note_file(tmp_path / 'logs' / 'grpo-s0.log', rank[1:]))!r}, 'w').write("
        f"{json.dumps({'status': status, 'reason': 'too little'})!r})\n"
        for rank, status in notes.items()
    ]
    return "".join([*lines, "raise SystemExit(1)"])


@pytest.mark.parametrize(("status", "error"), [("oom", MemoryError), ("unavailable", UnavailableError)])
def test_a_process_that_runs_out_of_memory_is_a_result(scripted, tmp_path, status, error):
    with pytest.raises(error, match="too little"):
        scripted(noting(tmp_path, r1=status))


def test_the_first_process_has_written_its_result_itself(scripted, tmp_path):
    assert scripted(noting(tmp_path, r0="oom", r1="oom")) == 0


def test_notes_of_an_earlier_run_do_not_count(scripted, tmp_path):
    log = tmp_path / "logs" / "grpo-s0.log"
    log.parent.mkdir()
    launch.note_result(log, "1", "oom", "of another day")
    assert scripted("raise SystemExit(3)") == 3


@pytest.fixture
def script(study, tmp_path, monkeypatch):
    """The training script's main with a training that lacks memory, and its layout."""

    def lacks_memory(*_: object) -> None:
        raise MemoryError("too little")

    main = script_main("train_grpo")
    monkeypatch.setitem(main.__globals__, "train", lacks_memory)
    monkeypatch.setitem(main.__globals__, "end_with_parent", lambda: None)
    monkeypatch.setitem(main.__globals__, "read_manifest", lambda _, **__: SimpleNamespace(folder=tmp_path))
    layout = Layout.of(study)

    def run(**environ: str) -> int:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return int(main(["--study", str(tmp_path / "study.yaml"), "--variant", "grpo-s0"]))

    return run, layout


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_without_memory_leaves_no_other_waiting(script, rank):
    run, layout = script
    assert run(WORLD_SIZE="2", RANK=rank) == 1
    noted = json.loads(launch.note_file(layout.log("train_grpo", "grpo-s0"), rank).read_text())
    assert noted == {"status": "oom", "reason": "too little"}
    assert layout.record("train_grpo", "grpo-s0").exists() == (rank == "0")
    assert layout.manifest("grpo-s0").exists() == (rank == "0")


def test_the_launcher_writes_the_record_of_a_process_without_memory(script, monkeypatch):
    run, layout = script

    def launched(*_: object, **__: object) -> int:
        raise MemoryError("too little on GPU 1")

    monkeypatch.setattr(launch, "run", launched)
    assert run(GAINWATT_GPUS="0,1") == 0
    record = read_record(layout.record("train_grpo", "grpo-s0"))
    assert (record["status"], record["reason"]) == ("oom", "too little on GPU 1")

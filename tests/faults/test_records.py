"""Records that cannot be trusted stop the tables by name, and a second process does not make a record twice."""

from __future__ import annotations

import json
import os

import pytest

from factories import write_all_records
from gainwatt.lock import RecordLock
from gainwatt.study import load_study


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def foreign(path):
    path.write_text('{"results": {"gsm8k": {"exact_match": 0.5}}}')


def older(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))


def other_study(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "study": "another"}))


@pytest.fixture
def recorded(fresh):
    write_all_records(load_study(fresh.folder / "study.yaml", [f"paths.results={fresh.folder}/results"]), n=8)
    return fresh


@pytest.mark.parametrize(
    ("break_it", "said", "todo"),
    [
        (truncate, "is truncated or not JSON", "remove it and run the rule"),
        (foreign, "is not a gainwatt record", "give a file that a gainwatt script wrote"),
        (older, "has schema version 0, this code reads", "make it again with this version"),
        (other_study, "belongs to the study 'another'", "check the folder"),
    ],
)
@pytest.mark.parametrize("script", ["make_tables", "make_figures"])
def test_a_record_that_cannot_be_trusted(recorded, script, break_it, said, todo):
    path = recorded.results / "records" / "evaluate_gsm8k" / "grpo-s0.bnb-nf4.json"
    break_it(path)
    done = recorded.run(script)
    assert done.returncode == 3
    assert said in done.stderr
    assert str(path.relative_to(recorded.folder)) in done.stderr
    assert f"what to do: {todo}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (recorded.results / "tables").exists()
    assert not (recorded.results / "figures").exists()


def test_a_sidecar_cut_short(recorded):
    path = recorded.results / "records" / "evaluate_gsm8k" / "grpo-s0.bnb-nf4.items.parquet"
    truncate(path)
    done = recorded.run("make_tables")
    assert done.returncode == 3
    assert f"{path.relative_to(recorded.folder)} is not the file that" in done.stderr


def test_two_scripts_on_one_record(fresh):
    lock = RecordLock(fresh.results / "records" / "prepare_data" / "data.json")
    lock.acquire()
    done = fresh.run("prepare_data")
    assert done.returncode == 2
    assert f"data.json is being made by process {os.getpid()} on " in done.stderr
    assert "what to do: wait until it has ended, or end it" in done.stderr
    assert not (fresh.results / "data").exists()
    lock.release()
    assert fresh.run("prepare_data").returncode == 0

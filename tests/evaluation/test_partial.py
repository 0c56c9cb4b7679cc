"""A killed evaluation goes on from what it has, and never from another evaluation's answers."""

from __future__ import annotations

import pytest

from gainwatt.engines.base import Completion
from gainwatt.evaluation.partial import PartialResults


def answer(index, text="ok"):
    return Completion(index, text, 3, "stop", 0.5, 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "work" / "completions.jsonl"


def test_goes_on(path):
    first = PartialResults(path, "identity")
    first.add([answer(0), answer(1, "über\u2028 \n #### 3")], seconds=1.5)
    again = PartialResults(path, "identity")
    assert again.done == {0: answer(0), 1: answer(1, "über\u2028 \n #### 3")}
    again.add([Completion(2, "", 1, "stop", None, None)], seconds=0.25)
    third = PartialResults(path, "identity")
    assert third.done == {**again.done, 2: Completion(2, "", 1, "stop", None, None)}
    assert third.seconds == 1.75


def test_events_and_seconds_of_every_run_are_kept(path):
    PartialResults(path, "identity").add([answer(0)], seconds=2.0, events=["halved"])
    again = PartialResults(path, "identity")
    again.add([answer(1)], seconds=1.0)
    assert (again.events, again.seconds) == (["halved"], 3.0)


def test_every_cut_of_the_last_line_is_survived(path):
    partial = PartialResults(path, "identity")
    partial.add([answer(0)], seconds=1.0)
    partial.add([answer(1), answer(2)], seconds=1.0)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(last, len(whole) - 1, 9):
        path.write_bytes(whole[:end])
        again = PartialResults(path, "identity")
        assert set(again.done) == {0}
        assert again.seconds == 1.0
        again.add([answer(1), answer(2)], seconds=0.5)
        assert set(PartialResults(path, "identity").done) == {0, 1, 2}


def test_a_cut_header_starts_anew(path):
    PartialResults(path, "identity").add([answer(0)], seconds=1.0)
    path.write_bytes(path.read_bytes()[:8])
    assert PartialResults(path, "identity").done == {}


def test_another_evaluations_answers_are_dropped(path):
    PartialResults(path, "identity").add([answer(0)], seconds=1.0)
    assert PartialResults(path, "other").done == {}
    assert PartialResults(path, "identity").done == {}


@pytest.mark.parametrize(
    "line",
    [
        '{"index": 0, "text": "x"}',
        '{"seconds": 1.0, "events": [], "completions": [{"index": 0, "other": 1}]}',
        "[]",
        "7",
        '{"seconds": null, "events": [], "completions": []}',
    ],
)
def test_lines_of_another_version_are_dropped(path, line):
    PartialResults(path, "identity")
    path.write_text(path.read_text() + line + "\n")
    again = PartialResults(path, "identity")
    assert (again.done, again.seconds, again.events) == ({}, 0.0, [])


def test_remove(path):
    partial = PartialResults(path, "identity")
    partial.remove()
    partial.remove()
    assert not path.exists()

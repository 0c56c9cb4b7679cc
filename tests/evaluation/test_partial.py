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
    first.add([answer(0), answer(1, "über\u2028 \n #### 3")])
    again = PartialResults(path, "identity")
    assert again.done == {0: answer(0), 1: answer(1, "über\u2028 \n #### 3")}
    again.add([answer(2)])
    assert set(PartialResults(path, "identity").done) == {0, 1, 2}


def test_every_cut_of_the_last_line_is_survived(path):
    PartialResults(path, "identity").add([answer(0), answer(1)])
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(last, len(whole) - 1, 9):
        path.write_bytes(whole[:end])
        again = PartialResults(path, "identity")
        assert set(again.done) == {0}
        again.add([answer(1), answer(2)])
        assert set(PartialResults(path, "identity").done) == {0, 1, 2}


def test_a_cut_header_starts_anew(path):
    PartialResults(path, "identity").add([answer(0)])
    path.write_bytes(path.read_bytes()[:8])
    assert PartialResults(path, "identity").done == {}


def test_another_evaluations_answers_are_dropped(path):
    PartialResults(path, "identity").add([answer(0)])
    assert PartialResults(path, "other").done == {}
    assert PartialResults(path, "identity").done == {}


def test_fields_of_another_version_are_dropped(path):
    PartialResults(path, "identity")
    path.write_text(path.read_text() + '{"index": 0, "other": 1}\n')
    assert PartialResults(path, "identity").done == {}


def test_remove(path):
    partial = PartialResults(path, "identity")
    partial.remove()
    partial.remove()
    assert not path.exists()

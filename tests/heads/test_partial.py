"""What a killed job left is read back as it was."""

from __future__ import annotations

import numpy as np

from gainwatt.heads.partial import MeasuredPoints, ReadPrompts


def test_prompts(tmp_path):
    path = tmp_path / "work" / "prompts.jsonl"
    values = {3: np.arange(6, dtype=np.float32).reshape(2, 3) / 7, 0: np.zeros((1, 3), dtype=np.float32)}
    partial = ReadPrompts(path, "one")
    partial.add(values, seconds=1.5)
    partial.add({1: np.ones((1, 3), dtype=np.float32)}, seconds=0.5)
    text = path.read_text()
    again = ReadPrompts(path, "one")
    assert again.seconds == 2.0
    assert {index: found.tolist() for index, found in again.done.items()} == {
        index: found.tolist() for index, found in (values | {1: np.ones((1, 3))}).items()
    }
    for cut in (len(text) - 3, len(text) - 60):
        path.write_text(text[:cut])
        assert sorted(ReadPrompts(path, "one").done) == [0, 3]
    path.write_text(text.replace("seconds", "second", 1))
    assert ReadPrompts(path, "one").done == {}
    path.write_text(text)
    assert ReadPrompts(path, "other").done == {}


def test_points(tmp_path):
    path = tmp_path / "points.jsonl"
    MeasuredPoints(path, "one").append({"point": "none-0", "result": {"generate_s": 1.0}})
    assert MeasuredPoints(path, "one").done == {"none-0": {"generate_s": 1.0}}
    assert MeasuredPoints(path, "two").done == {}

"""The example task: HellaSwag's columns, one right ending among four."""

from __future__ import annotations

import json

import pytest

from factories import items
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item
from gainwatt.tasks.example import NAME, write_example


def rows_of(folder):
    return [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]


def test_four_endings_of_which_one_is_the_solution(tmp_path):
    yaml = write_example(tmp_path, items(20))
    assert yaml == tmp_path / f"{NAME}.yaml"
    assert json.dumps(str(tmp_path / "validation.jsonl")) in yaml.read_text()
    rows = rows_of(tmp_path)
    assert len(rows) == 20
    for row, item in zip(rows, items(20), strict=True):
        assert len(set(row["endings"])) == 4
        assert row["endings"][int(row["label"])] == item.solution
        assert {"ctx_a", "ctx_b", "activity_label", "ind", "source_id"} <= row.keys()
        assert row["ctx"] == item.question
    assert len({row["label"] for row in rows}) == 4


def test_wrong_endings_differ_in_the_last_step_only(tmp_path):
    solution = "2*4=<<2*4=8>>8\n13+8=<<13+8=21>>21\n21-10=<<21-10=11>>11\n#### 11"
    write_example(tmp_path, [Item(0, "q?", solution, "11")])
    (row,) = rows_of(tmp_path)
    for ending in row["endings"]:
        answer = ending.rpartition("#### ")[2]
        assert ending == f"2*4=<<2*4=8>>8\n13+8=<<13+8=21>>21\n21-10=<<21-10={answer}>>{answer}\n#### {answer}"


def test_the_same_seed_gives_the_same_files(tmp_path):
    write_example(tmp_path / "a", items(9), seed=3)
    write_example(tmp_path / "b", items(9), seed=3)
    write_example(tmp_path / "c", items(9), seed=4)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b") != rows_of(tmp_path / "c")


def test_answers_that_are_no_whole_numbers_are_left_out(tmp_path):
    fraction = Item(0, "q?", "half\n#### 1/2", "1/2")
    with pytest.raises(InputError, match="no question has a whole number"):
        write_example(tmp_path, [fraction])
    write_example(tmp_path, [fraction, *items(2)])
    assert len(rows_of(tmp_path)) == 2

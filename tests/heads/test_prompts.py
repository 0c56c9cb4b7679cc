"""The package's own prompts, and prompts of somebody's own."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from factories import write_items
from gainwatt.errors import InputError
from gainwatt.heads.prompts import prompt_files, read_prompts, vocabulary_cosine
from gainwatt.study.heads import Heads


def read(tmp_path=None, **settings):
    return read_prompts(Heads(**settings), lambda split: tmp_path / f"{split}.jsonl")


def test_own_prompts_are_matched():
    sets = read()
    texts = {kind: found.texts for kind, found in sets.items()}
    assert {kind: len(found) for kind, found in texts.items()} == {"reasoning": 32, "general": 32, "matched": 32}
    assert vocabulary_cosine(texts["reasoning"], texts["matched"]) > 0.85
    assert vocabulary_cosine(texts["reasoning"], texts["general"]) < 0.75
    words = {kind: sum(len(text.split()) for text in found) / 32 for kind, found in texts.items()}
    assert abs(words["matched"] / words["reasoning"] - 1) < 0.05
    assert abs(words["general"] / words["reasoning"] - 1) < 0.15
    for problem, control in zip(texts["reasoning"], texts["matched"], strict=True):
        shared = Counter(problem.lower().split()) & Counter(control.lower().split())
        assert sum(shared.values()) >= 0.3 * len(problem.split()), control


def test_the_first_prompts_of_each_kind():
    sets = read(max_prompts=7)
    assert {len(found.texts) for found in sets.values()} == {7}
    assert sets["reasoning"].texts == read().get("reasoning").texts[:7]


def test_questions_of_the_study_with_shuffled_controls(tmp_path):
    write_items(tmp_path, test=9)
    sets = read(tmp_path, reasoning="data:test")
    assert sets["matched"].source == "shuffled"
    for problem, control in zip(sets["reasoning"].texts, sets["matched"].texts, strict=True):
        assert sorted(problem.split()) == sorted(control.split())
        assert problem != control
    assert sets["matched"].sha256 == read(tmp_path, reasoning="data:test")["matched"].sha256
    assert sets["matched"].sha256 != read(tmp_path, reasoning="data:test", seed=5)["matched"].sha256
    assert prompt_files(Heads(reasoning="data:test"), lambda split: tmp_path / split) == [tmp_path / "test"]
    assert prompt_files(Heads(), lambda split: tmp_path / split) == []


def test_files(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(6)) + "\n\n")
    rows = [{"prompt": f"p {i}"} if i % 2 else {"question": f"q {i}"} for i in range(6)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = read(reasoning=str(tmp_path / "a.txt"), general=str(tmp_path / "b.jsonl"), matched="none")
    assert sets["reasoning"].texts[0] == "line 0"
    assert sets["general"].texts[:2] == ("q 0", "p 1")
    assert "matched" not in sets


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "x.txt", "cannot read the general prompts"),
        (b"", "x.txt", "holds 0 general prompts"),
        (b"a\nb\nc\nd\n", "x.txt", "holds 4 general prompts"),
        (b"\xff\xfe\n", "x.txt", "are not UTF-8 text"),
        (b"a\nb\nc\nd\ne\na\n", "x.txt", "a prompt stands twice, among the general and the general prompts"),
        (b"{\n", "x.jsonl", "line 1 is no JSON object"),
        (b"[1]\n", "x.jsonl", "line 1 is no JSON object"),
        (b'{"prompt": 3}\n', "x.jsonl", "has no text under"),
        (b'{"text": "a"}\n', "x.jsonl", "has no text under"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, name, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read(general=str(path))
    assert caught.value.hint


def test_a_folder_is_no_prompt_file(tmp_path):
    with pytest.raises(InputError, match="cannot read the general prompts"):
        read(general=str(tmp_path))


def test_a_matched_prompt_for_each_reasoning_prompt(tmp_path):
    (tmp_path / "m.txt").write_text("\n".join(f"line {i}" for i in range(6)))
    with pytest.raises(InputError, match="holds 6 matched prompts for 32 reasoning prompts"):
        read(matched=str(tmp_path / "m.txt"))

"""GSM8K files: round trip, hash, and every bad input."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item, data_sha256, read_items, write_items

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def line(question="How many?", answer="9\n#### 9", **extra):
    return json.dumps({"question": question, "answer": answer, **extra})


def test_items_in_order_with_meta(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(line("A?", "#### 1,080", source="x") + "\n\n" + line("B?") + "\n", "utf-8")
    first, second = read_items(path)
    assert first == Item(0, "A?", "#### 1,080", "1,080", {"source": "x"})
    assert (second.index, second.question, second.gold, second.meta) == (1, "B?", "9", {})


def test_limit_reads_no_further(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(line("A?") + "\n" + line("B?") + "\nnot JSON\n", "utf-8")
    assert [item.question for item in read_items(path, limit=2)] == ["A?", "B?"]
    with pytest.raises(InputError, match="line 3: not JSON"):
        read_items(path, limit=3)
    with pytest.raises(InputError, match="limit on the items"):
        read_items(path, limit=0)


def test_byte_order_mark(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line().encode())
    assert len(read_items(path)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no items"),
        ("\n \n", "holds no items"),
        (line() + "\n{\n", "line 2: not JSON"),
        ("[1]", "line 1: a JSON list, not an object"),
        ('{"question": "A?"}', "line 1: the key 'answer' is missing; there are \\['question'\\]"),
        ('{"answer": "#### 1"}', "line 1: the key 'question' is missing"),
        (line(answer="nine"), "line 1: the reference solution has no '####' line: 'nine'"),
        (line(answer="#### many"), "line 1: the reference answer after '####' is not a number"),
        (line() + "\n" + line("B?") + "\n" + line("How  many? "), "line 3 repeats the question of line 1"),
        (line(level=3), "line 1: the value of 'level' is not text but int"),
        (line(answer=None), "line 1: the value of 'answer' is not text but NoneType"),
        (line(question="  "), "line 1: the question is empty"),
        (line(question="\ud800?"), "line 1: 'question' holds half of a surrogate pair"),
    ],
)
def test_bad_content_names_file_and_line(tmp_path, content, message):
    path = tmp_path / "items.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_items(path)
    assert str(path) in caught.value.what
    assert caught.value.hint


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(line().encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_items(path)


def test_absent_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(InputError, match="could not read the data set"):
            read_items(path)


def test_duplicates_on_request(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(line() + "\n" + line() + "\n", "utf-8")
    assert [item.index for item in read_items(path, allow_duplicates=True)] == [0, 1]


@given(st.lists(st.tuples(TEXT.map(lambda text: f"Q{text}"), TEXT), min_size=1, max_size=5), TEXT)
def test_round_trip(tmp_path_factory, rows, note):
    items = [Item(i, q, f"{a}\n#### {i}", str(i), {"note": note}) for i, (q, a) in enumerate(rows)]
    path = tmp_path_factory.mktemp("round") / "items.jsonl"
    write_items(path, items)
    again = read_items(path, allow_duplicates=True)
    assert again == items
    assert data_sha256(again) == data_sha256(items)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "items.jsonl"
    write_items(path, [Item(0, "A?", "#### 1", "1")])
    before = path.read_bytes()
    with pytest.raises(InputError, match="meta key 'answer'"):
        write_items(path, [Item(0, "B?", "#### 1", "1"), Item(1, "C?", "#### 1", "1", {"answer": "x"})])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_hash_depends_on_content_and_order_only(tmp_path):
    a, b = Item(0, "A?", "#### 1", "1"), Item(1, "B?", "#### 2", "2")
    assert data_sha256([a, b]) != data_sha256([b, a])
    assert data_sha256([a]) != data_sha256([Item(0, "A?", "#### 1", "1", {"note": "x"})])
    path = tmp_path / "spaced.jsonl"
    path.write_text('{ "answer": "#### 1",   "question": "A?" }\r\n', "utf-8")
    assert data_sha256(read_items(path)) == data_sha256([a])
    assert len(data_sha256([a])) == 64

"""Texts as they are, one hash, and errors that name the file."""

from __future__ import annotations

import hashlib

import pytest

from factories import write_items
from gainwatt.errors import InputError, UnavailableError
from gainwatt.perplexity.corpus import corpus_files, keep_corpus, read_corpus
from gainwatt.study.quality import Perplexity


def read(corpus, tmp_path, **settings):
    return read_corpus(Perplexity(corpus=str(corpus), **settings), lambda split: tmp_path / f"{split}.jsonl")


def test_a_file_is_one_document_with_the_files_own_hash(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Zeile\r\nzwei\n\nß".encode())
    got = read(path, tmp_path)
    assert got.documents == ("Zeile\r\nzwei\n\nß",)
    assert got.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_is_a_document_per_text_file_in_the_order_of_names(tmp_path):
    for name, text in (("b.txt", "two"), ("a.txt", "one"), ("c.md", "no"), ("d.txt", " \n")):
        (tmp_path / name).write_text(text)
    got = read(tmp_path, tmp_path)
    assert got.documents == ("one", "two")
    (tmp_path / "b.txt").write_text("2")
    assert read(tmp_path, tmp_path).sha256 != got.sha256


def test_a_split_of_the_studys_questions(tmp_path):
    write_items(tmp_path, test=3)
    got = read("data:test", tmp_path)
    assert len(got.documents) == 3
    assert got.documents[0] == "test 0: what is 0 + 2?\n0 + 2.\n#### 2"
    assert corpus_files(Perplexity(corpus="data:test"), lambda split: tmp_path / split) == [tmp_path / "test"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.txt", None, r"cannot read the corpus .*absent\.txt"),
        ("latin.txt", b"\xe4", r"latin\.txt is not UTF-8"),
        ("blank.txt", b" \n ", "holds no text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / name, tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match=r"holds no \*\.txt file"):
        read(tmp_path, tmp_path)


def test_a_hub_corpus_out_of_reach_says_how_to_bring_it(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UnavailableError, match=r"hub:Salesforce/wikitext.*no route") as caught:
        read("hub:Salesforce/wikitext", tmp_path, revision="abc")
    assert "perplexity.corpus" in caught.value.hint


def test_rows_of_a_hub_corpus_are_joined_by_blank_lines(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["", " = A = \n", "b"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    assert read("hub:o/n", tmp_path, revision="abc").documents == ("\n\n = A = \n\n\nb",)
    with pytest.raises(InputError, match="no column 'page', only text"):
        read("hub:o/n", tmp_path, revision="abc", column="page")


def test_a_kept_hub_corpus_needs_no_hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["", " = Größe = \r\n", "b"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    settings = Perplexity(corpus="hub:o/n", revision="abc")
    fresh = read("hub:o/n", tmp_path, revision="abc")
    assert keep_corpus(settings, tmp_path / "corpus.jsonl") == len(fresh.documents[0])

    def refuse(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    assert read("hub:o/n", tmp_path, revision="abc") == fresh
    with pytest.raises(InputError, match="holds another corpus than the study names"):
        read("hub:o/n", tmp_path, revision="def")
    (tmp_path / "corpus.jsonl").write_text("{")
    with pytest.raises(InputError, match="is no kept corpus"):
        read("hub:o/n", tmp_path, revision="abc")

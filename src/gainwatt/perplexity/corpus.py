"""The text that perplexity is measured on: documents, and one hash for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError, UnavailableError
from gainwatt.record import text_sha256
from gainwatt.study import hub_id
from gainwatt.study.quality import Perplexity


@dataclass(frozen=True)
class Corpus:
    """Documents in their order. `sha256` is the text's own for one document, else that of the documents' hashes."""

    source: str
    documents: tuple[str, ...]
    sha256: str


def read_corpus(settings: Perplexity, data: Callable[[str], Path]) -> Corpus:
    """Read the corpus that a study names; `data` gives the file of a split of the study's questions.

    Files are UTF-8 and taken as they are, line ends and all. Raises InputError, naming the file, for one that is
    absent, empty or no UTF-8 text, and UnavailableError where a hub data set cannot be reached.
    """
    source = settings.corpus
    if source.startswith("data:"):
        documents = _questions(data(source.removeprefix("data:")))
    elif source.startswith("hub:"):
        documents = [_hub_text(settings)]
    else:
        documents = [_text(path) for path in _files(Path(source))]
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise InputError(f"the corpus {source} holds no text", "give a file or folder with text in it")
    hashes = [text_sha256(text) for text in documents]
    return Corpus(source, tuple(documents), hashes[0] if len(hashes) == 1 else text_sha256(json.dumps(hashes)))


def corpus_files(settings: Perplexity, data: Callable[[str], Path]) -> list[Path]:
    """The files that `read_corpus` will read; none for the hub."""
    if settings.corpus.startswith("data:"):
        return [data(settings.corpus.removeprefix("data:"))]
    return [] if settings.corpus.startswith("hub:") else _files(Path(settings.corpus))


def _files(path: Path) -> list[Path]:
    found = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not found:
        raise InputError(f"the corpus folder {path} holds no *.txt file", "put one text file per document there")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read the corpus {path}: {error.strerror}", "correct perplexity.corpus") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the corpus {path} is not UTF-8 text ({error.reason})", "save it as UTF-8") from error


def _questions(path: Path) -> list[str]:
    from gainwatt.gsm8k.data import read_items

    return [f"{item.question}\n{item.solution}" for item in read_items(path)]


def _hub_text(settings: Perplexity) -> str:
    """The rows of a hub data set, joined by blank lines as the documented recipe of transformers joins WikiText's."""
    name = hub_id(settings.corpus)
    try:
        import datasets

        rows: Any = datasets.load_dataset(name, settings.config, split=settings.split, revision=settings.revision)
    except (ImportError, OSError, ValueError) as error:
        raise UnavailableError(
            f"cannot read the corpus {settings.corpus} at {settings.revision}: {error}",
            "save its text to a file where there is internet, and give that file as perplexity.corpus",
        ) from error
    if settings.column not in rows.column_names:
        raise InputError(
            f"the corpus {settings.corpus} has no column {settings.column!r}, only {', '.join(rows.column_names)}",
            "set perplexity.column",
        )
    return "\n\n".join(rows[settings.column])

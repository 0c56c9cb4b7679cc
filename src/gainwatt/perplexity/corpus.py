"""The text that perplexity is measured on: documents, and one hash for all of them.

The text of a hub data set can be kept in a file among the study's data, for machines without internet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text
from gainwatt.errors import InputError, UnavailableError
from gainwatt.record import text_sha256
from gainwatt.study import hub_id
from gainwatt.study.quality import IDENTITY, Perplexity

KEPT = "corpus"
"""Name, among the study's splits, of the file that holds a hub corpus."""


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
        kept = data(KEPT)
        documents = [read_kept(settings, kept) if kept.exists() else _hub_text(settings)]
    else:
        documents = [_text(path) for path in _files(Path(source))]
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise InputError(f"the corpus {source} holds no text", "give a file or folder with text in it")
    hashes = [text_sha256(text) for text in documents]
    return Corpus(source, tuple(documents), hashes[0] if len(hashes) == 1 else text_sha256(json.dumps(hashes)))


def keep_corpus(settings: Perplexity, path: Path) -> int:
    """Write the text of a hub corpus to `path`, with what it is. Returns its length in characters.

    Raises as `read_corpus` does.
    """
    text = _hub_text(settings)
    write_text(path, json.dumps({**_identity(settings), "text": text}) + "\n")
    return len(text)


def read_kept(settings: Perplexity, path: Path) -> str:
    """The text that `keep_corpus` wrote. Raises InputError where it is another one than the study names."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        text = str(kept.pop("text"))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is no kept corpus: {error}", "remove it, and run scripts/fetch_corpus.py") from error
    if kept != _identity(settings):
        raise InputError(
            f"{path} holds another corpus than the study names: {kept}", "run scripts/fetch_corpus.py again"
        )
    return text


def _identity(settings: Perplexity) -> dict[str, Any]:
    return settings.model_dump(mode="json", include=IDENTITY)


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
            "run `make fetch` where there is internet, or save the text to a file there and name it: perplexity.corpus",
        ) from error
    if settings.column not in rows.column_names:
        raise InputError(
            f"the corpus {settings.corpus} has no column {settings.column!r}, only {', '.join(rows.column_names)}",
            "set perplexity.column",
        )
    return "\n\n".join(rows[settings.column])

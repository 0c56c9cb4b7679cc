"""GSM8K items as JSON lines: read with every error naming file and line, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_path
from gainwatt.errors import InputError
from gainwatt.gsm8k.score import gold_answer

_FORMAT_HINT = 'each line is a JSON object {"question": "…", "answer": "… #### 18"} with text values'


@dataclass(frozen=True)
class Item:
    """One problem: its place in the file (from 0), its reference solution, and the answer after `####`."""

    index: int
    question: str
    solution: str
    gold: str
    meta: dict[str, str] = field(default_factory=dict)


def read_items(path: Path, *, limit: int | None = None, allow_duplicates: bool = False) -> list[Item]:
    """Read the first `limit` items (None: all) of a JSON-lines file with the keys question and answer.

    Other keys must hold text and go to `meta`. Only the lines needed are read. Raises InputError, naming file and
    line, for a file that is absent, unreadable or without items, a line that is not such an object, a solution
    without `####`, and (unless `allow_duplicates`) a question that stood on an earlier line; white space does not
    make two questions different.
    """
    if limit is not None and limit < 1:
        raise InputError(f"the limit on the items of {path} is {limit}", "give a limit of at least 1, or none")
    items: list[Item] = []
    first_line: dict[str, int] = {}
    for number, line in _lines(path):
        item = _item(line, len(items), f"{path}, line {number}")
        earlier = first_line.setdefault(" ".join(item.question.split()), number)
        if earlier != number and not allow_duplicates:
            raise InputError(
                f"{path}: line {number} repeats the question of line {earlier}: {item.question[:80]!r}",
                "remove one of the two lines; a paired comparison would count the item twice",
            )
        items.append(item)
        if len(items) == limit:
            break
    if not items:
        raise InputError(f"{path} holds no items", _FORMAT_HINT)
    return items


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write `items` as JSON lines that `read_items` reads back, whole or not at all.

    Raises InputError where the file cannot be written or a meta key would hide question or answer.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        for item in items:
            hidden = sorted({"question", "answer"} & item.meta.keys())
            if hidden:
                raise InputError(f"item {item.index} for {path} has a meta key {hidden[0]!r}", "rename that key")
            out.write(json.dumps(_content(item), ensure_ascii=False) + "\n")


def data_sha256(items: Iterable[Item]) -> str:
    """SHA-256 (hex) of the items' content in their order; independent of spacing and key order in a file."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(_content(item), sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _content(item: Item) -> dict[str, str]:
    return {"question": item.question, "answer": item.solution, **item.meta}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of `path` that are not blank, with their numbers from 1."""
    number = 0
    try:
        with Path(path).open("rb") as handle:
            for number, raw in enumerate(handle, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InputError(
            f"could not read the data set {path}: {error.strerror or error}",
            "check the path, or make the file with the command that fetches the data",
        ) from error
    except UnicodeDecodeError as error:
        what = f"{path}, line {number}: not UTF-8 text ({error.reason})"
        raise InputError(what, "save the file as UTF-8") from error


def _item(line: str, index: int, where: str) -> Item:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})", _FORMAT_HINT) from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {type(row).__name__}, not an object", _FORMAT_HINT)
    for key in ("question", "answer"):
        if key not in row:
            raise InputError(f"{where}: the key {key!r} is missing; there are {sorted(row)}", _FORMAT_HINT)
    for key, value in row.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: the value of {key!r} is not text but {type(value).__name__}", _FORMAT_HINT)
        if any("\ud800" <= char <= "\udfff" for char in key + value):
            raise InputError(f"{where}: {key!r} holds half of a surrogate pair", "repair that line")
    if not row["question"].strip():
        raise InputError(f"{where}: the question is empty", _FORMAT_HINT)
    try:
        gold = gold_answer(row["answer"])
    except InputError as error:
        raise InputError(f"{where}: {error.what}", error.hint) from error
    meta = {key: value for key, value in row.items() if key not in ("question", "answer")}
    return Item(index=index, question=row["question"], solution=row["answer"], gold=gold, meta=meta)

"""What the per-item table beside an evaluation says in total, read by columns."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COLUMNS = ("index", "correct", "branch", "finish_reason", "tokens", "prompt_sha256")


@dataclass(frozen=True)
class ItemFacts:
    """Totals over the items; a count is None where the table lacks its column.

    `questions` identifies the items and their prompts whatever their order.
    """

    n: int
    correct: int | None
    parsed: int | None
    cut: int | None
    tokens: int | None
    repeated: tuple[int, ...]
    questions: str | None


def item_facts(path: Path) -> ItemFacts:
    """Read the table. Raises ValueError where it is no parquet file or lacks the column `index`."""
    from pyarrow import parquet

    # pyarrow's own errors are ValueError or OSError by inheritance.
    with parquet.ParquetFile(path) as file:
        names = [name for name in _COLUMNS if name in file.schema_arrow.names]
        if "index" not in names:
            raise ValueError(f"{path.name} has no column 'index'")
        table = file.read(columns=names, use_threads=False)
    columns: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in names}
    index, n = columns["index"], table.num_rows
    unparsed, cut = _count(columns.get("branch"), "none"), _count(columns.get("finish_reason"), "length")
    return ItemFacts(
        n=n,
        correct=_count(columns.get("correct"), True),
        parsed=None if unparsed is None else n - unparsed,
        cut=cut,
        tokens=sum(columns["tokens"]) if "tokens" in columns else None,
        repeated=() if len(set(index)) == n else tuple(sorted(i for i, k in Counter(index).items() if k > 1)),
        questions=None if "prompt_sha256" not in columns else _digest(index, columns["prompt_sha256"]),
    )


def _count(values: list[Any] | None, wanted: object) -> int | None:
    return None if values is None else values.count(wanted)


def _digest(index: list[int], prompts: list[str]) -> str:
    ordered = sorted(index)
    if index != ordered:
        prompts = [prompt for _, prompt in sorted(zip(index, prompts, strict=True))]
    return hashlib.sha256("\n".join([*map(str, ordered), *prompts]).encode()).hexdigest()

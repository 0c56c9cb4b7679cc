"""Which items of two sides can be paired: the same question in the same words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from gainwatt.comparison.sides import Side
from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.study import Cell
from gainwatt.tables.results import read_sidecar

Key = tuple[str, int]
"""Hash of a prompt, and its occurrence: data may hold a question twice."""


@dataclass
class Answers:
    """Which items of a cell are right; `questions` are their texts without the prompt around them."""

    correct: dict[Key, bool]
    questions: set[str]


@dataclass
class Match:
    """How cells of both sides can be compared; `keys` are the shared items of a paired comparison."""

    kind: Literal["paired", "unpaired", "refused"]
    keys: list[Key]
    note: str = ""


def answers(record: Record) -> Answers:
    """The items beside a record. Raises RecordError where they are missing, changed or lack a column."""
    try:
        columns = read_sidecar(record, "items", ["prompt_sha256", "question", "correct"])
        prompts, seen = columns["prompt_sha256"], Counter[str]()
        correct: dict[Key, bool] = {}
        for prompt, right in zip(prompts, columns["correct"], strict=True):
            correct[prompt, seen[prompt]] = bool(right)
            seen[prompt] += 1
    except (KeyError, ValueError, OSError) as error:
        hint = "run the rule that makes it again"
        raise RecordError(f"cannot read the items of {record['path']}: {error}", hint) from error
    return Answers(correct, set(columns["question"]))


def usable(side: Side, cell: Cell) -> str | None:
    """Why a cell of a side has no accuracy to compare; None where it has."""
    record = side.evaluations.get(cell)
    if record is None:
        return f"{cell.name} is not in {side.label}"
    if record["status"] != "ok":
        return f"{cell.name} is {record['status']} in {side.label}"
    return None


def match(a: Side, b: Side, of_a: list[Answers], of_b: list[Answers]) -> Match:
    """Pair the items that every cell of both sides answered, or say why that, or any comparison, is not valid."""
    left, right = _shared(of_a), _shared(of_b)
    keys = sorted(left & right)
    if keys:
        note = (
            "" if len(keys) == len(left) == len(right) else f"{len(keys)} shared items of {len(left)} and {len(right)}"
        )
        return Match("paired", keys, note)
    if of_a[0].questions & of_b[0].questions:
        return Match("refused", [], "other prompt: the same questions were asked in other words")
    if a.source is None or b.source is None or a.source != b.source:
        told = f"{a.source or 'unknown'} and {b.source or 'unknown'}"
        return Match("refused", [], f"other data: not one question in common, sources {told}")
    if _template(a) != _template(b):
        return Match("refused", [], "other prompt and other data: not one question in common")
    return Match(
        "unpaired", [], "other items of the same source: unpaired, so that the items' difficulty counts as noise"
    )


def _shared(cells: list[Answers]) -> set[Key]:
    return set.intersection(*(set(cell.correct) for cell in cells))


def _template(side: Side) -> Any:
    return next((record["settings"].get("data.prompt_template") for record in side.evaluations.values()), None)

"""Two evaluations of the same checkpoint on the same items by two engines, item by item.

Greedy decoding takes the most likely token; two engines add up the same products in another order, and where the two
best tokens are closer than the rounding, they part. What must hold is that few items part and that the parting has no
direction. Only texts of the same prompts are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainwatt.errors import GainwattError, InputError, RecordError
from gainwatt.record import Record, file_sha256, read_record
from gainwatt.stats.paired import mcnemar_exact

if TYPE_CHECKING:
    from gainwatt.job import Job

COLUMNS = ("index", "prompt_sha256", "text", "answer", "correct", "tokens", "finish_reason")
_METRICS = (
    "same_text_share", "same_answer_share", "same_score_share", "only_left_correct", "only_right_correct", "p_value",
)  # fmt: skip
_COMPARED = ("text", "answer", "correct", "tokens", "finish_reason")
Row = dict[str, Any]


def compare_items(left: Sequence[Row], right: Sequence[Row]) -> list[Row]:
    """One row per item of both sides, in `left`'s order: what is the same, and where the texts part.

    `first_difference` is the first character that differs (None: the same text). Raises InputError where the sides
    were not asked the same prompts.
    """
    others = dict(_keyed(right))
    mine = dict(_keyed(left))
    if mine.keys() != others.keys():
        shared = len(mine.keys() & others.keys())
        raise InputError(
            f"the two evaluations were not asked the same: {len(mine)} and {len(others)} prompts, {shared} in common",
            "compare evaluations of the same data, template and limits",
        )
    return [_row(one, others[key]) for key, one in mine.items()]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Shares of items with the same text, answer and score; accuracies; McNemar's exact p-value of their difference."""
    n = len(rows)
    improved = sum(not row["left_correct"] and row["right_correct"] for row in rows)
    worsened = sum(row["left_correct"] and not row["right_correct"] for row in rows)
    return {
        "items": n,
        "same_text_share": sum(row["same_text"] for row in rows) / n,
        "same_answer_share": sum(row["same_answer"] for row in rows) / n,
        "same_score_share": sum(row["same_correct"] for row in rows) / n,
        "left_accuracy": sum(row["left_correct"] for row in rows) / n,
        "right_accuracy": sum(row["right_correct"] for row in rows) / n,
        "only_right_correct": improved,
        "only_left_correct": worsened,
        "p_value": mcnemar_exact(improved, worsened),
    }


def read_rows(record: Record, path: Path) -> list[Row]:
    """The items beside a record. Raises RecordError where they are missing or not those that the record names."""
    from pyarrow import parquet

    named = record["outputs"].get("items")
    file = path.parent / named["file"] if named else path.with_suffix(".items.parquet")
    try:
        if named is None or file_sha256(file) != named["sha256"]:
            raise RecordError(f"{file} is not the file that {path} names", "run the evaluation again")
        rows: list[Row] = parquet.read_table(file, columns=list(COLUMNS)).to_pylist()
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read the items of {path}: {error}", "run the evaluation again") from error
    return rows


def same_checkpoint(left: Record, right: Record) -> bool:
    """Whether both records name the same checkpoint by its hash."""
    one, other = (record["inputs"].get("checkpoint", {}).get("sha256") for record in (left, right))
    return one is not None and one == other


def note_parity(job: Job, own: Path, rows: Sequence[Row]) -> None:
    """Put the agreement of `rows` with the record `own` of the engine in the process into the job's metrics.

    The left side is `own`. Where there is nothing to compare, the metrics are null with the reason.
    """
    try:
        record = read_record(own)
        if record["status"] != "ok" or not same_checkpoint(record, {"inputs": job.inputs}):
            raise InputError(f"{own.name} is {record['status']}, or of another checkpoint")
        found = summary(compare_items(read_rows(record, own), rows))
    except GainwattError as error:
        for name in _METRICS:
            job.null(f"parity_{name}", error.what)
        return
    job.metrics.update({f"parity_{name}": found[name] for name in _METRICS})


def _keyed(rows: Sequence[Row]) -> Iterable[tuple[tuple[str, int], Row]]:
    """By prompt and its occurrence: data may hold a question twice."""
    seen = Counter[str]()
    for row in sorted(rows, key=lambda row: row["index"]):
        prompt = row["prompt_sha256"]
        yield (prompt, seen[prompt]), row
        seen[prompt] += 1


def _row(one: Row, other: Row) -> Row:
    found: Row = {"index": one["index"]}
    for name in ("text", "answer", "correct"):
        found[f"same_{name}"] = one[name] == other[name]
    found["first_difference"] = _parting(one["text"], other["text"])
    for name in _COMPARED:
        found[f"left_{name}"], found[f"right_{name}"] = one[name], other[name]
    return found


def _parting(one: str, other: str) -> int | None:
    if one == other:
        return None
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))

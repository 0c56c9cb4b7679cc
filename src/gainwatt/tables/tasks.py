"""Tasks of lm-eval: accuracy of each cell with its interval, and paired tests over the same items."""

from __future__ import annotations

from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.stats.intervals import wilson
from gainwatt.stats.multiple import holm
from gainwatt.stats.paired import paired_difference
from gainwatt.stats.ratio import bootstrap_ratio
from gainwatt.study import BASE, Cell, evaluation_cells
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
Key = tuple[str, str, str]
"""Task, metric, filter."""
Values = dict[int, tuple[str, float | None]]
"""doc_id -> (hash of the item as it was asked, score)."""

_COMPARISONS = ("reference", "base")
_NAMES = ("improved_over", "worsened_over", "minus", "minus_low", "minus_high", "mcnemar_p")


def tasks(results: Results) -> list[Row]:
    """One row per task, metric and cell, with differences to the reference scheme and to the base model.

    A score of 0 and 1 per item has a Wilson interval, and its differences McNemar's exact test and a paired bootstrap,
    both by doc id; p-values are corrected by Holm over the table, each kind of comparison by itself. Other scores have
    a bootstrap interval of their mean. Raises RecordError, naming both cells, where two were not asked the same items.
    """
    if results.study.tasks is None:
        return []
    scores = {cell: _scores(record) for cell, record in results.tasks.items() if record["status"] == "ok"}
    keys = list(dict.fromkeys(key for found in scores.values() for key in found))
    rows = [_row(results, cell, key, scores) for key in keys for cell in evaluation_cells(results.study)]
    for name in _COMPARISONS:
        tested = [row for row in rows if row[f"mcnemar_p_{name}"] is not None]
        adjusted = holm([row[f"mcnemar_p_{name}"] for row in tested])
        for row in rows:
            row[f"mcnemar_p_holm_{name}"] = None
        for row, value in zip(tested, adjusted, strict=True):
            row[f"mcnemar_p_holm_{name}"] = value
    return rows or [_failed(results, cell) for cell in evaluation_cells(results.study)]


def section(rows: list[Row]) -> str:
    """The summary's part about tasks; empty where none was measured."""
    shown = [
        {
            "task": row["task"],
            "metric": row["metric"] if row["filter"] == "none" else f"{row['metric']}, {row['filter']}",
            "variant": row["variant"],
            "scheme": row["precision"],
            "n": row["items"],
            "score, %": f"{100 * row['value']:.1f} [{100 * row['value_low']:.1f}, {100 * row['value_high']:.1f}]",
            "minus reference": _change(row, "reference"),
            "minus base": _change(row, "base"),
        }
        for row in rows
        if row["task"] is not None and row["value"] is not None
    ]
    return f"## Tasks of lm-eval (paired differences in points)\n\n{to_markdown(shown)}" if shown else ""


def _change(row: Row, name: str) -> str | None:
    if row[f"minus_{name}"] is None:
        return None
    low, high, p = (row[f"{field}_{name}"] for field in ("minus_low", "minus_high", "mcnemar_p_holm"))
    return f"{100 * row[f'minus_{name}']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], p {p:.2g}"


def _row(results: Results, cell: Cell, key: Key, scores: dict[Cell, dict[Key, Values]]) -> Row:
    task, metric, filtered = key
    record = results.tasks.get(cell)
    about: Row = record["settings"]["lm_eval"]["tasks"].get(task, {}) if record and cell in scores else {}
    values = [value for _, value in scores.get(cell, {}).get(key, {}).values()]
    row: Row = {
        "task": task,
        "metric": metric,
        "filter": filtered,
        "variant": cell.variant,
        "precision": cell.scheme,
        "task_version": about.get("version"),
        "num_fewshot": about.get("num_fewshot"),
        "items": len(values) or None,
        **_estimate(results, values),
    }
    reference = Cell(cell.variant, results.study.quantize.reference)
    for name, before in zip(_COMPARISONS, (reference, Cell(BASE, cell.scheme)), strict=True):
        row |= _difference(results, name, before, cell, key, scores)
    return row | _status(record)


def _failed(results: Results, cell: Cell) -> Row:
    """A row for a cell where no cell has any score."""
    return {"task": None, "variant": cell.variant, "precision": cell.scheme, **_status(results.tasks.get(cell))}


def _status(record: Record | None) -> Row:
    return {
        "status": record["status"] if record else "missing",
        "reason": record["reason"] if record else "not measured yet",
    }


def _estimate(results: Results, values: list[float | None]) -> Row:
    numbers = _numbers(values)
    if not numbers or len(numbers) < len(values):
        return dict.fromkeys(("correct", "value", "value_low", "value_high"))
    settings = results.study.statistics
    value = sum(numbers) / len(numbers)
    if _binary(numbers):
        found = wilson(int(sum(numbers)), len(numbers), settings.confidence)
        return {"correct": int(sum(numbers)), "value": value, "value_low": found.low, "value_high": found.high}
    drawn = bootstrap_ratio(
        numbers, [1] * len(numbers), draws=settings.bootstrap_draws, confidence=settings.confidence, seed=settings.seed
    )
    return {"correct": None, "value": value, "value_low": drawn.low, "value_high": drawn.high}


def _difference(
    results: Results, name: str, before: Cell, after: Cell, key: Key, scores: dict[Cell, dict[Key, Values]]
) -> Row:
    """What changed from `before` to `after`; null for a cell against itself and for scores other than 0 and 1."""
    names = [f"{field}_{name}" for field in _NAMES]
    old, new = scores.get(before, {}).get(key), scores.get(after, {}).get(key)
    if before == after or not old or not new:
        return dict.fromkeys(names)
    _check_same(before, after, key[0], old, new)
    order = sorted(old)
    first, second = _numbers([old[item][1] for item in order]), _numbers([new[item][1] for item in order])
    if not _binary([*first, *second]) or len(first) + len(second) < 2 * len(order):
        return dict.fromkeys(names)
    settings = results.study.statistics
    found = paired_difference(
        first, second,
        draws=settings.bootstrap_draws, confidence=settings.confidence, seed=settings.seed,
    )  # fmt: skip
    numbers = (found.improved, found.worsened, found.estimate, found.low, found.high, found.p_value)
    return dict(zip(names, numbers, strict=True))


def _check_same(before: Cell, after: Cell, task: str, old: Values, new: Values) -> None:
    if {item: asked for item, (asked, _) in old.items()} != {item: asked for item, (asked, _) in new.items()}:
        raise RecordError(
            f"the cells {before.name} and {after.name} were not asked the same items of {task}",
            "run both again with the same data, prompt and number of examples: only paired answers can be compared",
        )


def _scores(record: Record) -> dict[Key, Values]:
    columns = ["task", "metric", "filter", "doc_id", "doc_hash", "prompt_hash", "value"]
    read = read_sidecar(record, "samples", columns)
    found: dict[Key, Values] = {}
    for task, metric, filtered, item, doc, prompt, value in zip(*(read[name] for name in columns), strict=True):
        found.setdefault((task, metric, filtered), {})[item] = (f"{doc} {prompt}", value)
    return found


def _numbers(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _binary(values: list[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)

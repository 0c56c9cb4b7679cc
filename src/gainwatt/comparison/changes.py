"""What changed between two sides: configuration key by key, environment, inputs by hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from gainwatt.comparison.sides import Side
from gainwatt.validation.collected import sha_of
from gainwatt.validation.environments import facts

Row = dict[str, Any]
ABSENT = "(none)"
# Paths and names of a run; they say where it was done, not what was done.
_PLACES = ("paths.", "environments.", "resources.")
_PLACE_KEYS = {"output_dir", "logging_dir", "run_name", "study", "description"}


def configuration(a: Side, b: Side) -> list[Row]:
    """Settings that differ: of the study files where both were given, and those that the records of a stage keep."""
    rows = []
    if a.file is not None and b.file is not None:
        rows += _different(dict(leaves(a.file)), dict(leaves(b.file)), "study file")
    told = {row["key"] for row in rows}
    before, after = _recorded(a), _recorded(b)
    merged: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for stage in sorted(before.keys() & after.keys()):
        for row in _different(before[stage], after[stage], stage):
            if row["key"] not in told:
                merged[row["key"], row["a"], row["b"]].append(stage)
    found = sorted(merged.items())
    return rows + [{"key": key, "a": old, "b": new, "source": ", ".join(stages)} for (key, old, new), stages in found]


def _different(before: dict[str, Any], after: dict[str, Any], source: str) -> list[Row]:
    rows = []
    for key in sorted(before.keys() | after.keys()):
        if key.startswith(_PLACES) or key.rpartition(".")[2] in _PLACE_KEYS:
            continue
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if old != new:
            rows.append({"key": key, "a": str(old), "b": str(new), "source": source})
    return rows


def _recorded(side: Side) -> dict[str, dict[str, str]]:
    """stage -> key -> value over the records of the side; several values where its cells differ."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in side.records:
        settings = {k: v for k, v in record["settings"].items() if k not in ("events", "layer_errors", "smoke_text")}
        for key, value in leaves(settings):
            values[record["stage"]][key].add(str(value))
    return _joined(values)


def _joined(values: dict[str, dict[str, set[str]]]) -> dict[str, dict[str, str]]:
    return {stage: {key: " | ".join(sorted(every)) for key, every in found.items()} for stage, found in values.items()}


def environment(a: Side, b: Side) -> list[Row]:
    """What differs in machine, driver, packages and commit, with the stages that it concerns."""
    before, after = _facts(a), _facts(b)
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    common = sorted(before.keys() & after.keys())
    for stage in common:
        for name in sorted(before[stage].keys() | after[stage].keys()):
            old, new = before[stage].get(name, ABSENT), after[stage].get(name, ABSENT)
            if old != new:
                found[name, old, new].append(stage)
    return [
        {"fact": name, "a": old, "b": new, "stages": "all" if stages == common else ", ".join(stages)}
        for (name, old, new), stages in found.items()
    ]


def _facts(side: Side) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in side.records:
        for name, value in facts(record).items():
            values[record["stage"]][name].add(str(value))
    return _joined(values)


def inputs(a: Side, b: Side) -> list[Row]:
    """Each input of each common cell by hash: data, checkpoint, base, settings; and whether it is the same."""
    rows = []
    for place in sorted(a.places.keys() & b.places.keys()):
        first, second = a.places[place][0], b.places[place][0]
        for name in sorted(first["inputs"].keys() | second["inputs"].keys()):
            old, new = sha_of(first["inputs"], name), sha_of(second["inputs"], name)
            rows.append({"stage": place[0], "cell": place[1], "input": name, "same": old == new, "a": old, "b": new})
    return rows


def missing(a: Side, b: Side) -> list[Row]:
    """Cells that only one side has, or that ended otherwise than `ok` on one side."""
    rows = []
    for stage, cell in sorted(a.places.keys() | b.places.keys()):
        states = [
            side.places[stage, cell][0]["status"] if (stage, cell) in side.places else "missing" for side in (a, b)
        ]
        if states != ["ok", "ok"]:
            rows.append({"stage": stage, "cell": cell, "a": states[0], "b": states[1]})
    return rows


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of everything in `tree` that is no mapping."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

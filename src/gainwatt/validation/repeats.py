"""Did repeats of one measurement agree well enough to be averaged?"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from gainwatt.energy.stats import spread
from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number, whole_study
from gainwatt.validation.findings import WARNING

_HINT = "let the machine come to rest, close other programs, and measure with more or longer repeats"


@each_record(WARNING, source="the limit that each gate names (gainwatt.energy.protocol)")
def gates(study: Collected, record: Record) -> Iterator[Problem]:
    """Every gate of the measuring protocol passed: the spread of its repeats stayed below its limit."""
    for arm, gate in _gates({"metrics": record["metrics"], "settings": record["settings"]}):
        if gate.get("passed") is False:
            cv, limit = number(gate.get("cv")), number(gate.get("limit"))
            told = "" if cv is None or limit is None else f": coefficient of variation {cv:.1%}, limit {limit:.1%}"
            yield Problem(f"the gate {gate.get('name')}{f' of {arm}' if arm else ''} did not pass{told}", _HINT)


def _gates(block: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every gate in a block, whatever holds it, with the name of its arm."""
    if isinstance(block, dict):
        for key, value in block.items():
            if not isinstance(value, dict | list):
                continue
            if key == "gates" and isinstance(value, list):
                yield from ((str(block.get("arm", "")), gate) for gate in value if isinstance(gate, dict))
            else:
                yield from _gates(value)
    elif isinstance(block, list):
        for value in block:
            yield from _gates(value)


def generate_w(record: Record) -> float | None:
    """Mean power of the generation in watts."""
    for total in record["energy"].get("phase_totals") or ():
        gross_j, seconds = number(total.get("gross_j")), number(total["seconds"])
        if total["path"] == "generate" and gross_j is not None and seconds:
            return gross_j / seconds
    return None


def repeated(records: list[Record]) -> dict[str, list[Record]]:
    """Records that measure one cell several times (`repeat` in the cell tells them apart), by stage and cell."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cell = {key: value for key, value in record["cell"].items() if key != "repeat"}
        groups[f"{record['stage']} {json.dumps(cell, sort_keys=True)}"].append(record)
    return {name: group for name, group in groups.items() if len(group) > 1}


@whole_study(WARNING, source="validation.cv_throughput and validation.cv_power")
def repeats_agree(study: Collected) -> Iterator[Problem]:
    """Repeats of one cell agree in throughput and mean power."""
    limits = study.study.validation
    quantities: tuple[tuple[str, float, Callable[[Record], float | None]], ...] = (
        ("throughput", limits.cv_throughput, lambda record: number(record["metrics"].get("throughput_tok_s"))),
        ("mean power", limits.cv_power, generate_w),
    )
    for name, group in repeated([record for record in study.records if record["status"] == "ok"]).items():
        for quantity, limit, of in quantities:
            values = [value for value in map(of, group) if value is not None]
            cv = spread(values).cv
            if cv is not None and cv > limit:
                what = f"{name}: {quantity} varies by {cv:.1%} over {len(values)} repeats (limit {limit:.1%})"
                yield Problem(what, _HINT, file=group[0]["file"])

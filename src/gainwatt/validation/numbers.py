"""Is every number one that can be: finite, not negative where nothing negative exists, within its unit?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number
from gainwatt.validation.findings import ERROR

_AGAIN = "run the rule that makes this record again; if it comes back, the script is wrong: report it"
# Suffix of a name -> smallest and largest value that can be. Net joules and log-likelihoods may be below zero.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("_rate", 0.0, 1.0),
    ("_frac", 0.0, 1.0),
    ("_share", 0.0, 1.0),
    ("_ppl", 1.0, math.inf),
    ("_bytes", 0.0, 1e15),
    ("_mib", 0.0, 1e9),
    ("_tok_s", 0.0, 1e9),
    ("_ms", 0.0, 1e11),
    ("_s", 0.0, 1e8),
    ("gross_j", 0.0, 1e13),
    ("counter_j", 0.0, 1e13),
    ("integral_j", 0.0, 1e13),
    ("_w", 0.0, 1e5),
    ("_c", -60.0, 150.0),
    ("_tokens", 0.0, 1e14),
    ("_items", 0.0, 1e10),
)
_NAMED: dict[str, tuple[float, float]] = {
    "seconds": (0.0, 1e8), "correct": (0.0, 1e10), "num_examples": (1.0, 1e10), "compression_ratio": (0.0, 1e3),
    # Seconds since 1970; 2017 came before every board with an energy counter.
    "started_unix_s": (1.48e9, 1e11),
}  # fmt: skip


@lru_cache(maxsize=4096)
def possible(name: str) -> tuple[float, float]:
    """Smallest and largest value that a number of this name can have, by the unit that ends the name."""
    if name in _NAMED:
        return _NAMED[name]
    if name == "accuracy" or name.startswith("accuracy_"):
        return 0.0, 1.0
    return next(((low, high) for suffix, low, high in _RANGES if name.endswith(suffix)), (-math.inf, math.inf))


@each_record(ERROR, source="arithmetic, and the unit that ends a name", any_status=True)
def possible_numbers(study: Collected, record: Record) -> Iterator[Problem]:
    """Every number is finite and possible in its unit: no negative seconds, no rate above 1."""
    energy = record["energy"]
    top = {key: value for key, value in energy.items() if not isinstance(value, list | dict)}
    yield from _wrong("metrics", record["metrics"])
    yield from _wrong("energy", top)
    for name in ("devices", "phase_totals"):
        for place, entry in enumerate(energy.get(name) or ()):
            yield from _wrong(f"energy.{name}[{place}]", entry)


def _wrong(where: str, block: dict[str, Any]) -> Iterator[Problem]:
    for name, given in block.items():
        if isinstance(given, list):
            for place, entry in enumerate(given):
                if isinstance(entry, dict):
                    yield from _wrong(f"{where}.{name}[{place}]", entry)
            continue
        value = number(given)
        if value is None:
            continue
        low, high = possible(name)
        if not math.isfinite(value):
            yield Problem(f"{where}.{name} is {value}", _AGAIN)
        elif not low <= value <= high:
            yield Problem(f"{where}.{name} is {value:g}, which cannot be (from {low:g} to {high:g})", _AGAIN)


@each_record(ERROR, source="a number that was not measured is null with its reason", any_status=True)
def null_reasons(study: Collected, record: Record) -> Iterator[Problem]:
    """Every metric that is null has a reason, and no metric that has a value gives one."""
    reasons = record["null_reasons"]
    for name, value in record["metrics"].items():
        if value is None and not reasons.get(name):
            yield Problem(f"metrics.{name} is null without a reason", _AGAIN)
        elif value is not None and name in reasons:
            yield Problem(f"metrics.{name} has a value and a reason why it has none", _AGAIN)
    energy = record["energy"]
    for name in ("gross_j", "net_j"):
        if name in energy and energy[name] is None and not (energy.get("null_reasons") or {}).get(name):
            yield Problem(f"energy.{name} is null without a reason", _AGAIN)

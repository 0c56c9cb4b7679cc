"""Seconds, joules, throughput and memory of two sides: tested where runs were repeated, else against a noise floor.

A single run on each side cannot tell a difference from noise. It is then held against the repeatability limit of the
measuring protocol, r = 1.96·√2·cv: two single runs whose coefficient of variation just meets the gate differ by less
than that 19 times out of 20 (ISO 5725-6, "Use in practice of accuracy values", 2.77 repeatability deviations).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from gainwatt.comparison.judge import Compared, relative
from gainwatt.comparison.sides import Side
from gainwatt.energy.stats import spread, t95
from gainwatt.record import Record
from gainwatt.study.validation import Validation
from gainwatt.validation.collected import sha_of
from gainwatt.validation.environments import facts
from gainwatt.validation.expectation import number

REPEATABILITY = 1.96 * math.sqrt(2)
_PERMUTATIONS = 20_000


def phase(path: str, key: str) -> Callable[[Record], float | None]:
    """Reads seconds or joules of all occurrences of a phase."""

    def read(record: Record) -> float | None:
        totals = record["energy"].get("phase_totals") or ()
        return next((number(total.get(key)) for total in totals if total["path"] == path), None)

    return read


def metric(name: str) -> Callable[[Record], float | None]:
    """Reads a metric."""
    return lambda record: number(record["metrics"].get(name))


def _per_step(record: Record) -> float | None:
    joules, steps = phase("train", "gross_j")(record), number(record["metrics"].get("steps_this_run"))
    return joules / steps if joules is not None and steps else None


def _per_token(record: Record) -> float | None:
    joules, tokens = phase("generate", "gross_j")(record), number(record["metrics"].get("generated_tokens"))
    return joules / tokens if joules is not None and tokens else None


@dataclass(frozen=True)
class Quantity:
    """What is read from a record, its unit, and whether it only makes sense for the same items."""

    stage: str
    name: str
    unit: str
    read: Callable[[Record], float | None]
    energy: bool = False
    same_items: bool = False


QUANTITIES = (
    Quantity("evaluate_gsm8k", "generate_s", "s", metric("generate_s"), same_items=True),
    Quantity("evaluate_gsm8k", "throughput_tok_s", "tokens/s", metric("throughput_tok_s")),
    Quantity("evaluate_gsm8k", "gross_j", "J", phase("generate", "gross_j"), energy=True, same_items=True),
    Quantity("evaluate_gsm8k", "net_j", "J", phase("generate", "net_j"), energy=True, same_items=True),
    Quantity("evaluate_gsm8k", "gross_j_per_token", "J/token", _per_token, energy=True),
    Quantity("train_grpo", "step_s", "s", metric("step_s_mean")),
    Quantity("train_grpo", "gross_j_per_step", "J", _per_step, energy=True),
    Quantity("quantize", "quantize_s", "s", phase("quantize", "seconds")),
    Quantity("quantize", "gross_j", "J", phase("quantize", "gross_j"), energy=True),
)


def cost_rows(a: Side, b: Side, limits: Validation) -> list[Compared]:
    """Every quantity of every cell that both sides have with the status ok."""
    rows = []
    for quantity in QUANTITIES:
        for stage, cell in sorted(a.places.keys() & b.places.keys()):
            if stage == quantity.stage:
                left, right = ([r for r in side.places[stage, cell] if r["status"] == "ok"] for side in (a, b))
                row = _row(quantity, cell, left, right, limits) if left and right else None
                rows += [row] if row is not None else []
    return rows


def _row(quantity: Quantity, cell: str, left: list[Record], right: list[Record], limits: Validation) -> Compared | None:
    """None where neither side measured the quantity: there is nothing to say about it."""
    name = f"{quantity.name} ({quantity.stage})"
    values = [[value for value in map(quantity.read, records) if value is not None] for records in (left, right)]
    if not values[0] and not values[1]:
        return None
    mean_a, mean_b = (spread(found).mean for found in values)
    if mean_a is None or mean_b is None:
        note = f"not measured in {'A' if mean_a is None else 'B'}"
        return Compared(name, cell, quantity.unit, mean_a, mean_b, verdict="missing", note=note)
    wrong = _invalid(quantity, left[0], right[0])
    if wrong is not None:
        return Compared(name, cell, quantity.unit, mean_a, mean_b, verdict="refused", note=wrong)
    note = _machines(left[0], right[0])
    if min(map(len, values)) >= 2:
        return _repeated(name, cell, quantity, values, note)
    return _single(name, cell, quantity, (mean_a, mean_b), limits, note)


def _invalid(quantity: Quantity, left: Record, right: Record) -> str | None:
    """Why the two values measure different things; None where they can be compared."""
    if any(record["metrics"].get("resumed_items") for record in (left, right)) and quantity.energy:
        return "a part of the items was answered in an interrupted run, which this energy leaves out"
    if quantity.same_items and sha_of(left["inputs"], "data") != sha_of(right["inputs"], "data"):
        return "other items: the totals are of different work; see the rates"
    boundaries = ["+".join(record["energy"].get("boundary") or ()) for record in (left, right)]
    if quantity.energy and boundaries[0] != boundaries[1]:
        return f"other energy boundary: {boundaries[0] or 'none'} and {boundaries[1] or 'none'}"
    return None


def _machines(left: Record, right: Record) -> str:
    """What differs in the machine, for a reader who would take the difference for one of the settings."""
    before, after = facts(left), facts(right)
    names = ("GPU model", "number of GPUs", "power limit", "CPU", "CPU cores")
    found = [name for name in names if before.get(name) != after.get(name)]
    return f"another machine ({', '.join(found)})" if found else ""


def _single(
    name: str, cell: str, quantity: Quantity, values: tuple[float, float], limits: Validation, note: str
) -> Compared:
    floor = REPEATABILITY * (limits.cv_power if quantity.energy else limits.cv_throughput)
    a, b = values
    change = relative(a, b)
    beyond = change is None or abs(change) > floor
    said = f"one run each; noise floor {floor:.1%}"
    return Compared(
        name, cell, quantity.unit, a, b, b - a, change, method="repeatability limit, no test",
        verdict="same" if a == b else "above the noise floor, one run each" if beyond else "within the noise floor",
        note=f"{said}; {note}" if note else said,
    )  # fmt: skip


def _repeated(name: str, cell: str, quantity: Quantity, values: list[list[float]], note: str) -> Compared:
    left, right = values
    low, high = welch_interval(left, right)
    mean_a, mean_b = sum(left) / len(left), sum(right) / len(right)
    said = f"{len(left)} and {len(right)} repeats"
    return Compared(
        name, cell, quantity.unit, mean_a, mean_b, mean_b - mean_a, relative(mean_a, mean_b), low, high,
        min(len(left), len(right)), "repeats: permutation test, Welch interval (95 %)", permutation_p(left, right),
        verdict="no difference shown", note=f"{said}; {note}" if note else said,
    )  # fmt: skip


def welch_interval(left: list[float], right: list[float]) -> tuple[float, float]:
    """95 % interval of mean(right) − mean(left) for unequal variances; both need two values.

    Degrees of freedom by Welch and Satterthwaite, rounded down. Source: B. L. Welch, Biometrika 34 (1947) 28-35.
    """
    parts = [(spread(found).sd or 0.0) ** 2 / len(found) for found in (left, right)]
    error, difference = math.sqrt(sum(parts)), sum(right) / len(right) - sum(left) / len(left)
    if error == 0:
        return difference, difference
    freedom = sum(parts) ** 2 / sum(part**2 / (len(f) - 1) for part, f in zip(parts, (left, right), strict=True))
    half = t95(max(1, math.floor(freedom))) * error
    return difference - half, difference + half


def permutation_p(left: list[float], right: list[float]) -> float:
    """Two-sided p-value of the difference of means under every division of the values into groups of these sizes.

    Exact; where there are more than 20,000 divisions, that many random ones with a fixed seed. Source: E. J. G. Pitman,
    Suppl. J. R. Stat. Soc. 4 (1937) 119-130.
    """
    values, k = [*left, *right], len(left)
    total, distance = sum(values), abs(sum(left) / len(left) - sum(right) / len(right))
    rounding = 1e-12 * max(map(abs, values))  # sums of the same numbers in another order

    def apart(chosen: tuple[float, ...]) -> bool:
        rest = (total - sum(chosen)) / (len(values) - k)
        return abs(sum(chosen) / k - rest) >= distance - rounding

    if math.comb(len(values), k) <= _PERMUTATIONS:
        found = [apart(chosen) for chosen in itertools.combinations(values, k)]
        return sum(found) / len(found)
    import random

    draw = random.Random(0)  # noqa: S311 - a fixed seed, so that the same records give the same number
    hits = sum(apart(tuple(draw.sample(values, k))) for _ in range(_PERMUTATIONS))
    return (hits + 1) / (_PERMUTATIONS + 1)

"""Expectations and their registry: a named check, how bad a miss is, what it means and where its threshold is from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.findings import Severity


@dataclass(frozen=True)
class Problem:
    """What a check says; the registry adds the check's name.

    `severity` None takes the expectation's own; `file` None takes the record that is being checked.
    """

    what: str
    hint: str
    severity: Severity | None = None
    file: str | None = None


RecordCheck: TypeAlias = Callable[[Collected, Record], Iterable[Problem]]
StudyCheck: TypeAlias = Callable[[Collected], Iterable[Problem]]


@dataclass(frozen=True)
class Expectation:
    """One named expectation. Exactly one of `on_record` and `on_study` is given.

    `source` says where its threshold comes from. `stages` empty means every stage; a check on records sees records
    with the status ok unless `any_status`.
    """

    name: str
    severity: Severity
    description: str
    source: str
    on_record: RecordCheck | None = None
    on_study: StudyCheck | None = None
    stages: tuple[str, ...] = ()
    any_status: bool = False

    def applies(self, record: Record) -> bool:
        """Whether the record is one that this expectation is about."""
        return (not self.stages or record["stage"] in self.stages) and (self.any_status or record["status"] == "ok")


EXPECTATIONS: dict[str, Expectation] = {}


def each_record(
    severity: Severity, *, source: str, stages: tuple[str, ...] = (), any_status: bool = False
) -> Callable[[RecordCheck], RecordCheck]:
    """Register a check of one record at a time; its name is the function's, its description the docstring."""

    def register(check: RecordCheck) -> RecordCheck:
        _add(Expectation(check.__name__, severity, _description(check), source, check, None, stages, any_status))
        return check

    return register


def whole_study(severity: Severity, *, source: str) -> Callable[[StudyCheck], StudyCheck]:
    """Register a check that compares records with each other or with the study, named and described as above."""

    def register(check: StudyCheck) -> StudyCheck:
        _add(Expectation(check.__name__, severity, _description(check), source, None, check))
        return check

    return register


def _description(check: object) -> str:
    return " ".join((check.__doc__ or "").split())


def _add(expectation: Expectation) -> None:
    if expectation.name in EXPECTATIONS:
        raise ValueError(f"two expectations are called {expectation.name!r}")
    EXPECTATIONS[expectation.name] = expectation


def off(value: float, wanted: float) -> float:
    """Relative distance of two numbers, measured against the larger one: 0 for equal ones, at most 1 for one sign."""
    largest = max(abs(value), abs(wanted))
    return abs(value - wanted) / largest if largest else 0.0


def number(value: object) -> float | None:
    """`value` as a float where it is a number, else None: null stays null, and text is not guessed at."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def listed(names: Iterable[str], limit: int = 3) -> Iterator[str]:
    """The first `limit` names and how many follow."""
    every = list(names)
    yield from every[:limit]
    if len(every) > limit:
        yield f"and {len(every) - limit} more"

"""Run every expectation over the records of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gainwatt.record import Record
from gainwatt.study import Layout, Study
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import EXPECTATIONS, Expectation, Problem
from gainwatt.validation.findings import ERROR, Finding

# What a block of another shape than a record's raises when it is read. Anything else is a bug of the check.
_MISSHAPEN = (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError)


def validate(study: Study, layout: Layout) -> list[Finding]:
    """Findings over all records under the study's folder, errors first, in an order that depends on nothing else."""
    collected = Collected.read(study, layout)
    found: list[Finding] = []
    for expectation in EXPECTATIONS.values():
        found += _of_study(expectation, collected)
        found += _of_records(expectation, collected)
    return sorted(set(found), key=lambda finding: finding.order)


def _of_study(expectation: Expectation, collected: Collected) -> Iterator[Finding]:
    check = expectation.on_study
    if check is not None:
        yield from _guarded(expectation, lambda: check(collected), "")


def _of_records(expectation: Expectation, collected: Collected) -> Iterator[Finding]:
    check = expectation.on_record
    if check is None:
        return
    for record in collected.records:
        if expectation.applies(record):

            def problems(record: Record = record) -> Iterable[Problem]:
                return check(collected, record)

            yield from _guarded(expectation, problems, record["file"])


def _guarded(expectation: Expectation, problems: Callable[[], Iterable[Problem]], file: str) -> Iterator[Finding]:
    """The findings of one check; a record so misshapen that the check cannot read it is a finding as well."""
    try:
        for problem in problems():
            yield Finding(
                severity=problem.severity or expectation.severity,
                check=expectation.name,
                file=file if problem.file is None else problem.file,
                what=problem.what,
                hint=problem.hint,
            )
    except _MISSHAPEN as error:
        what = f"the check cannot be made, a part of the record has another shape: {type(error).__name__}: {error}"
        yield Finding(ERROR, expectation.name, file, what, "remove the record and run the rule that makes it again")

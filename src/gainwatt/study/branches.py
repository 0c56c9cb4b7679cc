"""The optional branches of a study: for each of their stages, the records that the study asks for.

A branch that is hooked in here is run, collected by the tables, expected by the validator and counted by the preview.
A study without the branch's section asks for none of its records.
"""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.study.model import Study

BRANCHES: dict[str, Callable[[Study], list[str]]] = {}
"""Stage -> names of the records (file stems) that a study asks for."""

KINDS: dict[str, str] = {}
"""Stage -> what its rule asks of the machine: a key of the study's section `resources`."""


def branch_records(study: Study) -> list[tuple[str, str]]:
    """(stage, name) of every record that the study's optional branches ask for."""
    return [(stage, name) for stage, names in BRANCHES.items() for name in names(study)]

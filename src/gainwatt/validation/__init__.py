"""The validator: named expectations over all records of a study, each with a severity and a source for its threshold.

Importing the package registers every expectation; nothing here imports torch or measures anything.
"""

from gainwatt.validation import (
    answers,
    clocks,
    completeness,
    energy,
    environments,
    heads,
    llamacpp,
    numbers,
    performance,
    profile,
    provenance,
    repeats,
    serving,
    train_profile,
)
from gainwatt.validation.expectation import EXPECTATIONS, Expectation
from gainwatt.validation.findings import COLUMNS, ERROR, INFO, WARNING, Finding
from gainwatt.validation.run import validate

__all__ = [
    "COLUMNS",
    "ERROR",
    "EXPECTATIONS",
    "INFO",
    "WARNING",
    "Expectation",
    "Finding",
    "answers",
    "clocks",
    "completeness",
    "energy",
    "environments",
    "heads",
    "llamacpp",
    "numbers",
    "performance",
    "profile",
    "provenance",
    "repeats",
    "serving",
    "train_profile",
    "validate",
]

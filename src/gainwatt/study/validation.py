"""The section of a study file that says which records count as suspicious: thresholds of the validator.

They judge records that are there and decide no result, so that changing one runs no measurement again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gainwatt.study.sections import Section, Share

Tolerance = Annotated[float, Field(gt=0.0, le=1.0)]


class Validation(Section):
    """When the validator warns, and when it fails a run. Every threshold is a share between 0 and 1."""

    parse_rate_warning: Share = 0.95
    """Warn where fewer answers than this share hold a number."""
    parse_rate_error: Share = 0.5
    """Fail below this share: the accuracy would say more about the parser than about the model."""
    hit_max_warning: Share = 0.1
    """Warn where more answers than this share were cut by evaluate.max_new_tokens."""
    hit_max_error: Share = 0.5
    """Fail above this share: the accuracy would say more about the limit than about the model."""
    energy_tolerance: Tolerance = 0.05
    """Energy may exceed power limit x time, or fall below idle power x time, by this share."""
    consistency_tolerance: Tolerance = 0.01
    """Two ways of computing one number may differ by this share (mean power x time and joules; tokens and rate)."""
    counter_tolerance: Tolerance = 0.05
    """Warn where energy counter and integrated power differ by more than this share."""
    cv_throughput: Tolerance = 0.02
    """Largest coefficient of variation of throughput over repeats of one cell."""
    cv_power: Tolerance = 0.05
    """Largest coefficient of variation of mean power over repeats of one cell."""

    @model_validator(mode="after")
    def _check(self) -> Validation:
        if self.parse_rate_error > self.parse_rate_warning:
            raise ValueError("parse_rate_error must not be above parse_rate_warning: the error is the worse case")
        if self.hit_max_error < self.hit_max_warning:
            raise ValueError("hit_max_error must not be below hit_max_warning: the error is the worse case")
        return self

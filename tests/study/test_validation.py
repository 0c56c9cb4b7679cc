"""Thresholds that contradict each other are refused, and none of them runs a measurement again."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gainwatt.study.validation import Validation


@pytest.mark.parametrize("wrong", [{"parse_rate_error": 0.99}, {"hit_max_error": 0.05}, {"cv_power": 0}, {"x": 1}])
def test_refused(wrong):
    with pytest.raises(ValidationError):
        Validation(**wrong)


def test_thresholds_decide_no_measurement(study):
    changed = study.model_copy(update={"validation": Validation(cv_power=0.1)})
    stages = {"train_grpo", "quantize", "evaluate_gsm8k", "diagnose_weights", "make_tables"}
    assert all(study.settings_sha256(stage) == changed.settings_sha256(stage) for stage in stages)
    assert study.settings_sha256("validate") != changed.settings_sha256("validate")

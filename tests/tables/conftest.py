"""A study with two training seeds and two quantized schemes, and its synthetic records."""

from __future__ import annotations

import pytest

from factories import study_content, write_all_records
from gainwatt.study import Layout, Study
from gainwatt.tables.results import Results


@pytest.fixture
def study(tmp_path):
    return Study.model_validate(
        study_content(
            tmp_path,
            train={"seeds": [0, 1]},
            quantize={"reference": "fp32", "schemes": ["bnb-nf4", "awq-w4g128"], "calibration_items": 4},
            cost={"electricity_usd_per_kwh": 0.12, "machine_usd_per_h": 2.0, "pue": 1.5},
        )
    )


@pytest.fixture
def layout(study):
    return Layout.of(study)


@pytest.fixture
def results(study, layout):
    write_all_records(study)
    return Results.load(study, layout)

"""A study that meets every expectation."""

from __future__ import annotations

import pytest

from .records import make_study, write_clean


@pytest.fixture
def study(tmp_path):
    made = make_study(tmp_path, train={"seeds": [0, 1]})
    write_clean(made)
    return made

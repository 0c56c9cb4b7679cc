"""The mark of the comparison with lm-evaluation-harness; properties on the same examples in every run."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lm_eval: compares with the lm_eval package, skipped where it is absent")

"""The mark of the tests that compare with lm-evaluation-harness."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lm_eval: compares with the lm_eval package, skipped where it is absent")

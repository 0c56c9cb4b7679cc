"""Published weight statistics of Qwen2.5-1.5B-Instruct, met again where its weights are at hand.

pytest -m qwen --qwen-dir DIR tests/weights/test_qwen.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gainwatt.weights.measure import Plan
from gainwatt.weights.run import diagnose
from gainwatt.weights.summary import summarize


@pytest.mark.qwen
def test_the_published_statistics(request: pytest.FixtureRequest) -> None:
    """The published run counted the tied output head too, some 15 % of the weights, hence the tolerances."""
    folder = request.config.getoption("--qwen-dir")
    if not folder:
        pytest.skip("no weights: give --qwen-dir DIR")
    found = summarize(diagnose(Path(folder), None, Plan(), label="base"), Plan())
    assert found["w4_relative_mse_weighted"] == pytest.approx(0.0155045, rel=0.03)
    assert found["w4_snr_db_mean"] == pytest.approx(17.9587, abs=0.2)

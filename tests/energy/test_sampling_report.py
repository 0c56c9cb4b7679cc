"""Rates and gaps of the record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import FakeGpus, constant, run


def test_the_longest_of_several_gaps_is_told(fake_gpus: Callable[..., FakeGpus]) -> None:
    holes = [
        statement for a, b in ((3, 4), (6, 7.5)) for statement in (f"record_hole {a} {b}", f"fail_at power {a} {b} 10")
    ]
    sampling = run(fake_gpus(constant(300.0), statements=[holes]), 12.0).summary()["sampling"]
    assert sampling["gaps"] == 2
    assert sampling["longest_gap_s"] == pytest.approx(1.55, abs=0.06)
    assert sampling["effective_hz"] == pytest.approx(sampling["samples"] / 12.0, rel=0.01)

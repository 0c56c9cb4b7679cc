from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from gainwatt.energy.stats import spread, t95


@pytest.mark.parametrize("freedom", [*range(1, 31), 35, 45, 77, 119, 120, 500, 100_000])
def test_quantile_agrees_with_scipy(freedom: int) -> None:
    assert t95(freedom) == pytest.approx(reference.t.ppf(0.975, freedom), rel=5e-4)


def test_no_freedom_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least two values"):
        t95(0)


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=40))
def test_interval_agrees_with_scipy(values: list[float]) -> None:
    found = spread(values)
    error = reference.sem(values)
    low, high = reference.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=error or 1e-300)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(high - low, rel=1e-3, abs=1e-9)
    assert (found.high + found.low) / 2 == pytest.approx((high + low) / 2, rel=1e-9)
    assert found.cv == pytest.approx((found.sd or 0.0) / (found.mean or math.nan))


def test_too_few_values_are_none() -> None:
    assert spread([]).mean is None
    one = spread([3.0])
    assert (one.n, one.mean, one.sd, one.cv, one.low) == (1, 3.0, None, None, None)
    assert spread([1.0, -1.0]).cv is None

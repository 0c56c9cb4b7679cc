from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gainwatt.weights.channels import channel_columns
from gainwatt.weights.moments import Distribution, Histogram16, PowerSums32

from .naive import TYPES, heavy, lower_median


def spread(tensor: torch.Tensor, *, multiplier: float = 6.0, rows: int = 5) -> Distribution:
    blocks = tensor.split(rows)
    found = PowerSums32(multiplier) if tensor.dtype == torch.float32 else Histogram16(multiplier)
    for block in blocks:
        found.add(block)
    return found.result(lambda: blocks) if isinstance(found, PowerSums32) else found.result()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(23, 31), (16, 64), (1, 1)])
def test_against_float64(name: str, shape: tuple[int, int]) -> None:
    tensor = heavy(shape, 5, TYPES[name])
    w = tensor.double().numpy()
    found = spread(tensor)
    assert found.numel == w.size
    assert found.median_abs == lower_median(np.abs(w))
    assert found.outliers == int((np.abs(w) > 6 * found.median_abs).sum())
    assert found.max_abs == np.abs(w).max()
    expected = [w.mean(), np.abs(w).mean(), (w**2).mean(), w.std()]
    assert [found.mean, found.mean_abs, found.mean_sq, found.std] == pytest.approx(expected, rel=1e-12)
    if w.size > 1:
        assert found.kurtosis == pytest.approx(((w - w.mean()) ** 4).mean() / w.var() ** 2, rel=1e-10)
    else:
        assert found.kurtosis is None


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40),
    st.floats(1.1, 10),
    st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_median_and_outliers_of_any_fp32(values: list[float], multiplier: float, rows: int) -> None:
    tensor = torch.tensor(values, dtype=torch.float32).view(-1, 1)
    found = spread(tensor, multiplier=multiplier, rows=rows)
    magnitudes = np.abs(np.array(values, np.float64))
    assert found.median_abs == lower_median(magnitudes)
    assert found.outliers == int((magnitudes > multiplier * found.median_abs).sum())


@pytest.mark.parametrize("name", TYPES)
def test_by_hand(name: str) -> None:
    found = spread(torch.tensor([[-1.0, 1.0], [2.0, -14.0]], dtype=TYPES[name]), multiplier=6.0, rows=1)
    assert (found.mean, found.mean_abs, found.mean_sq) == (-3.0, 4.5, 50.5)
    assert (found.median_abs, found.threshold, found.outliers, found.max_abs) == (1.0, 6.0, 1, 14.0)
    # deviations 2, 4, 5, -11: squares 4, 16, 25, 121, fourth powers 16, 256, 625, 14641
    assert found.std**2 == pytest.approx(166 / 4)
    assert found.kurtosis == pytest.approx((15538 / 4) / (166 / 4) ** 2)


def test_a_far_mean_does_not_drown_the_variance() -> None:
    tensor = heavy((50, 40), 2) + 1000
    assert spread(tensor).std == pytest.approx(tensor.double().numpy().std(), rel=1e-9)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number(name: str, bad: float) -> None:
    tensor = heavy((8, 8), 1, TYPES[name])
    assert spread(tensor).finite
    tensor[3, 3] = bad
    assert not spread(tensor).finite


@pytest.mark.parametrize("name", TYPES)
def test_all_zero(name: str) -> None:
    found = spread(torch.zeros((4, 4), dtype=TYPES[name]))
    assert (found.std, found.kurtosis, found.median_abs, found.outliers) == (0.0, None, 0.0, 0)


def test_channels() -> None:
    found = channel_columns(np.array([1.0, 2.0, 3.0, 30.0], np.float32), 6.0)
    assert found == {
        "channel_max_abs_mean": 9.0,
        "channel_max_abs_median": 2.0,
        "channel_max_abs_p95": pytest.approx(3 + 27 * 0.85),
        "channel_max_abs_p99": pytest.approx(3 + 27 * 0.97),
        "channel_max_abs_max": 30.0,
        "channel_outlier_threshold": 12.0,
        "channel_outlier_frac": 0.25,
    }

"""Student's quantiles against SciPy, and the interval of a mean."""

from __future__ import annotations

import pytest
from scipy import stats

from gainwatt.errors import InputError
from gainwatt.stats.student import mean_interval, two_sided_t


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 31, 32, 250])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_quantiles(freedom, confidence):
    assert two_sided_t(confidence, freedom) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


def test_interval():
    found = mean_interval(1.0, 0.5, 10, 0.95)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 9, 1.0, 0.5))


@pytest.mark.parametrize(("confidence", "freedom"), [(0.95, 0), (1.0, 3), (0.0, 3)])
def test_what_has_no_quantile(confidence, freedom):
    with pytest.raises(InputError):
        two_sided_t(confidence, freedom)

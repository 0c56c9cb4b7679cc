"""Sample sizes: a published case, statsmodels, and simulated power."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.errors import InputError
from gainwatt.stats.paired import mcnemar_exact
from gainwatt.stats.power import contrast_items, items_needed, paired_items, unpaired_items


def test_68_against_72_percent():
    assert unpaired_items(0.68, 0.72) == 2057


def test_unpaired_agrees_with_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for a, b in [(0.68, 0.72), (0.5, 0.6), (0.9, 0.95)]:
        theirs = proportion.power_proportions_2indep(b - a, a, unpaired_items(a, b), return_results=False)
        assert theirs == pytest.approx(0.8, abs=0.01)


def test_paired_needs_fewer_where_most_items_agree():
    assert paired_items(0.07, 0.03) < unpaired_items(0.68, 0.72) / 2
    assert paired_items(0.03, 0.07) == paired_items(0.07, 0.03)


def test_paired_has_the_power_it_promises():
    rng = np.random.default_rng(8)
    n = paired_items(0.10, 0.05)
    draws = rng.multinomial(n, [0.10, 0.05, 0.85], size=3_000)
    power = np.mean([mcnemar_exact(int(b), int(c)) < 0.05 for b, c, _ in draws])
    assert power == pytest.approx(0.8, abs=0.04)


def test_contrast_by_hand():
    # (1.959964 + 0.841621)² · (0.5 / 0.1)² = 196.2
    assert contrast_items(0.1, 0.5) == 197
    assert contrast_items(-0.1, 0.5) == 197
    assert contrast_items(0.1, 0.5, power=0.9) == 263


def test_contrast_agrees_with_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power")
    for distance, deviation in [(0.02, 0.4), (0.05, 0.3), (0.1, 0.5)]:
        n = contrast_items(distance, deviation)
        assert power.normal_power(distance / deviation, n, alpha=0.05) == pytest.approx(0.8, abs=0.005)


def arrays():
    base = np.zeros(100, int)
    ref, quantized = base.copy(), base.copy()
    base[:50] = ref[:60] = quantized[:60] = 1
    ref[0] = 0
    quantized[55:60] = 0
    return base, ref, base, quantized


def test_from_observed_arrays():
    got = items_needed(*arrays(), margin=0.06)
    left = arrays()[3] - arrays()[1]
    assert got.unpaired == unpaired_items(0.5, 0.59)
    assert got.paired == paired_items(0.10, 0.01)
    assert got.survival == contrast_items(-0.04, left.std())
    assert got.within_margin == contrast_items(0.02, left.std())
    assert got.reasons == {}


def test_several_training_seeds_are_averaged():
    base_ref, ref, base_q, quantized = arrays()
    got = items_needed(base_ref, [ref, ref], base_q, [quantized, quantized], margin=0.06)
    assert got == items_needed(*arrays(), margin=0.06)


def test_reasons_instead_of_numbers():
    base, ref, _, _ = arrays()
    got = items_needed(base, base, base, base, margin=0.0)
    assert (got.unpaired, got.paired, got.survival, got.within_margin) == (None, None, None, None)
    assert "zero" in got.reasons["paired"]
    assert "not above the margin" in got.reasons["within_margin"]
    got = items_needed(base, ref, base, ref, margin=0.02)
    assert (got.survival, got.within_margin) == (None, None)
    assert "no variation" in got.reasons["within_margin"]
    got = items_needed(np.ones(5, int), np.zeros(5, int), np.ones(5, int), np.ones(5, int), margin=0.02)
    # All items worsen: ψ = 1 and δ = −1 leave z² = 3.84.
    assert (got.paired, got.survival) == (4, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unpaired_items(0.5, 0.5), "tells 0.5 from 0.5"),
        (lambda: unpaired_items(0.5, 1.5), "two different shares"),
        (lambda: paired_items(0.1, 0.1), "0.1 improve and 0.1 worsen"),
        (lambda: paired_items(0.9, 0.2), "at most 1"),
        (lambda: contrast_items(0.0, 1.0), "distance of 0.0"),
        (lambda: contrast_items(0.1, -1.0), "cannot be negative"),
        (lambda: unpaired_items(0.1, 0.2, power=1.0), "the power is 1.0"),
        (lambda: items_needed([0, 1], [0, 1], [0, 1, 1], [0, 1, 1], margin=0.1), "same items"),
    ],
)
def test_questions_without_an_answer(call, message):
    with pytest.raises(InputError, match=message):
        call()

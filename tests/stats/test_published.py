"""Published counts out of 100: base 68/65/58 and GRPO 72/68/67 right at FP16, NF4 and AWQ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.stats.paired import mcnemar_exact, sign_flip_exact
from gainwatt.stats.power import contrast_items
from gainwatt.stats.published import PUBLISHED, unpaired_survival

COUNTS = PUBLISHED


@pytest.mark.parametrize(("scheme", "survival", "error", "z"), [("nf4", -0.01, 0.093, -0.1), ("awq", 0.05, 0.094, 0.5)])
def test_published_counts(scheme, survival, error, z):
    got = unpaired_survival(*COUNTS["fp16"], *COUNTS[scheme], n=100)
    assert got.delta_ref == 0.04
    assert round(got.delta_ref_se, 3) == 0.065
    assert round(got.delta_ref / got.delta_ref_se, 2) == 0.62
    assert got.survival == survival
    assert round(got.survival_se, 3) == error
    assert round(got.survival / got.survival_se, 1) == z
    assert (got.survival_interval.high - got.survival_interval.low) / 2 == pytest.approx(0.18, abs=0.005)
    assert got.items_needed_per_arm == 2057


@pytest.mark.parametrize("scheme", ["nf4", "awq"])
def test_intervals_of_the_gains_agree_with_statsmodels(scheme):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    got = unpaired_survival(*COUNTS["fp16"], *COUNTS[scheme], n=100)
    for interval, (base, trained) in ((got.delta_ref_interval, COUNTS["fp16"]), (got.delta_q_interval, COUNTS[scheme])):
        theirs = proportion.confint_proportions_2indep(trained, 100, base, 100, compare="diff", method="wald")
        assert (interval.low, interval.high) == pytest.approx(theirs, abs=1e-9)


def test_words():
    got = unpaired_survival(*COUNTS["fp16"], *COUNTS["nf4"], n=100)
    assert "reference gain is +4.0 points with a standard error of 6.5" in got.shows
    assert "survival is -1.0 points with a standard error of 9.3" in got.shows
    assert "do not show that training changed the accuracy" in got.does_not_show
    assert "about 2057 items per arm" in got.does_not_show
    assert "neither that quantization took part of a gain nor that it took none" in got.does_not_show
    assert "not published" in got.assumption


def test_large_samples_show_more():
    got = unpaired_survival(40_000, 60_000, 40_000, 50_000, n=100_000)
    assert got.survival_interval.below(0)
    assert got.does_not_show == "They do not show how other training seeds or other items would come out."


def test_no_gain_needs_no_number():
    got = unpaired_survival(50, 50, 50, 50, n=100)
    assert (got.items_needed_per_arm, got.survival) == (None, 0.0)
    assert "items per arm" not in got.does_not_show


@pytest.mark.parametrize("counts", [(101, 0, 0, 0), (0, -1, 0, 0)])
def test_counts_must_fit(counts):
    with pytest.raises(InputError, match="not counts out of 100"):
        unpaired_survival(*counts, n=100)


def test_published_counts_are_those_of_the_readme():
    assert PUBLISHED == {"fp16": (68, 72), "nf4": (65, 68), "awq": (58, 67)}


@pytest.mark.parametrize(("scheme", "best"), [("nf4", 1.0), ("awq", 2 / 2**5)])
def test_even_the_kindest_pairing_would_not_do(scheme, best):
    got = unpaired_survival(*COUNTS["fp16"], *COUNTS[scheme], n=100)
    assert got.best_case_p_gain == mcnemar_exact(4, 0) == 0.125
    assert got.best_case_p_survival == best
    assert (got.verdict, got.margin) == ("undecided", 0.02)
    assert "No gain to survive" in got.why
    assert "no exact paired test could tell the gain (p ≥ 0.12)" in got.does_not_show


@given(st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
def test_no_pairing_has_a_smaller_p_value(change, more, twos):
    """A difference of `change` answers from other items, too: some the other way round, some counted twice."""
    best = mcnemar_exact(change, 0)
    assert mcnemar_exact(change + more, more) >= best
    values = [1] * max(0, change - 2 * twos + more) + [2] * twos
    values += [-1] * (sum(values) - change)
    if sum(values) == change:
        assert sign_flip_exact(values) >= best


def test_items_for_the_margin_are_those_of_four_independent_cells():
    got = unpaired_survival(*COUNTS["fp16"], *COUNTS["awq"], n=100)
    spread = sum(p * (1 - p) for p in (0.68, 0.72, 0.58, 0.67)) ** 0.5
    assert got.items_needed_within_margin == contrast_items(0.05 + 0.02, spread)
    assert unpaired_survival(68, 80, 65, 60, n=100).items_needed_within_margin is None


def test_large_counts_can_decide():
    assert unpaired_survival(50_000, 60_000, 50_000, 60_000, n=100_000).verdict == "survives"
    assert unpaired_survival(50_000, 60_000, 50_000, 50_000, n=100_000).verdict == "erased"
    with pytest.raises(InputError, match="equivalence margin"):
        unpaired_survival(1, 1, 1, 1, n=2, margin=2)

"""Energy-delay products with published numbers, race to sleep, ranking with ties, quantiles."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.llamacpp.edp import edp_per_token, edp_published, edp_request
from gainwatt.llamacpp.metrics import quantile
from gainwatt.llamacpp.race import total_j, winners
from gainwatt.llamacpp.ranking import geometric_mean, paired_ratio, rank
from gainwatt.llamacpp.session import thinned


# (J/token, ms/token, EDP) of the published first version, github.com/csce585-mlsystems/
# Energy-Aware-LLM-Inference-on-Consumer-Hardware: dialogue, reasoning, narrative on CPU and GPU.
@pytest.mark.parametrize(
    ("joules", "ms", "edp"),
    [
        (189.69, 2646.85, 502.07), (158.73, 1269.35, 201.48), (212.78, 2184.88, 464.90), (158.63, 1115.80, 177.00),
        (208.20, 5175.11, 1077.44), (176.54, 5058.55, 893.04),
    ],
)  # fmt: skip
def test_the_published_products_per_token(joules, ms, edp):
    assert edp_per_token(joules, ms) == pytest.approx(edp, rel=1e-4)


def test_a_mean_of_products_is_not_the_product_of_means():
    # The published table: 6943.25 ms and 150.08 J, whose product is 1042.04, beside an EDP of 1045.25.
    assert edp_request(150.08, 6.94325, 1) == pytest.approx(1042.04, abs=0.01)
    rows = [(100.0, 5.0), (200.16, 8.8865)]
    assert sum(j for j, _ in rows) / 2 == pytest.approx(150.08)
    assert sum(s for _, s in rows) / 2 == pytest.approx(6.94325)
    assert edp_published(rows) == pytest.approx((500 + 200.16 * 8.8865) / 2)
    assert edp_published(rows) > 1042.04


def test_edp_of_a_request_does_not_grow_with_the_number_of_requests():
    assert edp_request(100.0, 20.0, 10) == pytest.approx(10.0 * 2.0)


Work = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.floats(1, 1000), st.floats(0.1, 10)), min_size=1, max_size=6
)


@given(Work, st.floats(0, 500))
def test_the_winner_of_a_segment_needs_least(work, watts):
    deadline = max(seconds for _, seconds in work.values())
    segments = winners(work, deadline)
    assert segments[0].low_w == 0
    assert segments[-1].high_w is None
    for before, after in itertools.pairwise(segments):
        assert before.high_w == after.low_w
    here = next(s for s in segments if s.low_w <= watts and (s.high_w is None or watts <= s.high_w))
    totals = {name: total_j(*found, deadline, watts) for name, found in work.items()}
    assert totals[here.arm] <= min(totals.values()) * (1 + 1e-6)


def test_race_to_sleep_wins_where_rest_is_cheap():
    work = {"fast": (100.0, 1.0), "slow": (60.0, 4.0)}
    assert [(s.arm, s.low_w, s.high_w) for s in winners(work, 4.0)] == [("slow", 0.0, None)]
    work = {"fast": (50.0, 1.0), "slow": (80.0, 4.0)}
    assert [(s.arm, s.low_w, s.high_w) for s in winners(work, 4.0)] == [("fast", 0.0, 10.0), ("slow", 10.0, None)]
    assert [s.arm for s in winners(work, 2.0)] == ["fast"]
    assert winners(work, 0.5) == []
    with pytest.raises(ValueError, match="the work takes 4 s"):
        total_j(80.0, 4.0, 2.0, 1.0)


def noisy(mean, spread, seed):
    drawn = random.Random(seed)
    return {n: mean * math.exp(drawn.gauss(0, spread)) for n in range(6)}


def test_lines_that_cross_in_one_point_hand_over_to_the_flattest():
    """All four need 500 + 44.3 · 18.7 J at the same power at rest, but for rounding."""
    work = {
        "a0": (509.7197026864506, 15.942972936861029), "a1": (-24.180088048290372, 3.89866288516631),
        "a2": (-31.208223328212625, 3.7401143300523496), "a3": (533.5161069714079, 16.479798903638567),
    }  # fmt: skip
    assert winners(work, 18.72323899279921)[-1].arm == "a3"


def test_what_nothing_tells_apart_shares_its_rank():
    # 1077, 1078 and 1108 were published as a ranking; with 3 % of noise between rounds they are a tie.
    arms = {"b1024": noisy(1077, 0.03, 1), "b128": noisy(1078, 0.03, 2), "b512": noisy(1108, 0.03, 3)}
    assert [place.rank for place in rank(arms, 0.95)] == [1, 1, 1]
    assert all(len(place.tied) == 2 for place in rank(arms, 0.95))
    arms["t1"] = noisy(2000, 0.03, 4)
    last = rank(arms, 0.95)[-1]
    assert (last.arm, last.rank, last.tied) == ("t1", 4, ())
    assert set(last.worse_than) == {"b1024", "b128", "b512"}


def test_noise_that_all_arms_share_cancels_in_the_pairs():
    shared = [1.0, 1.5, 0.7, 1.2, 0.9, 1.1]
    arms = {
        name: {n: mean * s * (1 + 0.001 * n) for n, s in enumerate(shared)} for name, mean in (("a", 1), ("b", 1.1))
    }
    assert [(place.arm, place.rank) for place in rank(arms, 0.95)] == [("a", 1), ("b", 2)]


def test_one_round_or_wild_ones_decide_nothing():
    assert [place.rank for place in rank({"a": {0: 1.0}, "b": {0: 9.0}}, 0.95)] == [1, 1]
    found = paired_ratio({0: 1.0, 1: 1.0}, {0: 1e-3, 1: 1e6}, 0.9999)
    assert (found.low, found.high, found.clear) == (None, None, False)
    assert paired_ratio({0: 1.0}, {1: 1.0}, 0.95).ratio is None
    assert rank({"a": {}, "b": {0: 1.0}}, 0.95)[0].arm == "b"


def test_false_rankings_of_equal_arms_are_rare():
    wrong = 0
    for trial in range(200):
        arms = {name: noisy(1.0, 0.05, f"{trial} {name}") for name in "abcdef"}
        wrong += any(place.rank > 1 for place in rank(arms, 0.95))
    assert wrong <= 20


def test_geometric_mean_takes_common_rounds():
    assert geometric_mean([{0: 1.0, 1: 4.0}, {1: 9.0, 2: 1.0}]) == {1: pytest.approx(6.0)}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_numpys(values, share):
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), abs=1e-9)


def test_thinned_keeps_ends_and_quantiles():
    values = [float(n) for n in range(10_001)]
    kept = thinned(values)
    assert (len(kept), kept[0], kept[-1]) == (1000, 0.0, 10_000.0)
    assert quantile(kept, 0.95) == pytest.approx(9500, rel=1e-3)
    assert thinned([1.0, 2.0]) == [1.0, 2.0]

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.energy.integrate import (
    carry_from_tick,
    counter_curve,
    counter_health,
    gaps,
    overlapping,
    power_curve,
    relative_difference,
    split_tick,
)

from .conftest import bursts, true_energy

watts = st.floats(0.0, 1000.0, allow_nan=False)


@given(
    power=watts,
    start=st.floats(0.0, 50.0),
    seconds=st.floats(0.0, 40.0),
    phase=st.floats(0.0, 0.1),
)
def test_constant_power_is_exact_for_every_window(power: float, start: float, seconds: float, phase: float) -> None:
    times = [phase + 0.1 * index for index in range(1000)]
    curve = power_curve(times, [power] * len(times))
    assert curve is not None
    assert curve.between(start, start + seconds) == pytest.approx(power * seconds, rel=1e-9, abs=1e-6)


@given(st.lists(watts, min_size=2, max_size=30), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_piecewise_linear_power_is_exact(values: list[float], one: float, two: float) -> None:
    knots = [(float(index), value) for index, value in enumerate(values)]
    curve = power_curve([t for t, _ in knots], values)
    assert curve is not None
    last = knots[-1][0]
    start, end = sorted((one * last, two * last))
    assert curve.between(start, end) == pytest.approx(true_energy(knots, start, end), rel=1e-9, abs=1e-6)


@given(st.lists(watts, min_size=1, max_size=20), st.floats(-2.0, 30.0), st.floats(-2.0, 30.0), st.floats(-2.0, 30.0))
def test_windows_add_up(values: list[float], a: float, b: float, c: float) -> None:
    curve = power_curve([float(index) for index in range(len(values))], values)
    assert curve is not None
    assert curve.between(a, b) + curve.between(b, c) == pytest.approx(curve.between(a, c), abs=1e-6)


def test_edges_are_closed_where_samples_lie_only_outside() -> None:
    curve = power_curve([0.0, 1.0], [300.0, 300.0])
    assert curve is not None
    assert curve.between(0.4, 0.45) == pytest.approx(15.0)


def test_power_of_the_ends_is_held() -> None:
    curve = power_curve([1.0, 2.0], [100.0, 200.0])
    assert curve is not None
    assert curve.between(0.0, 1.0) == pytest.approx(100.0)
    assert curve.between(2.0, 4.0) == pytest.approx(400.0)


def test_bursts_over_a_flat_base() -> None:
    truth = bursts(50.0, 300.0, every_s=5.0, burst_s=1.0, count=6, first_s=2.03)
    times = [0.1 * index for index in range(400)]
    values = [true_energy(truth, t, t + 1e-9) / 1e-9 for t in times]
    curve = power_curve(times, values)
    assert curve is not None
    assert curve.between(0.5, 30.5) == pytest.approx(true_energy(truth, 0.5, 30.5), rel=0.01)


def test_counter_curve_interpolates_and_needs_two_readings() -> None:
    assert counter_curve([1.0], [5.0]) is None
    curve = counter_curve([0.0, 2.0, 4.0], [0.0, 20.0, 100.0])
    assert curve is not None
    assert curve.between(1.0, 3.0) == pytest.approx(50.0)


def test_no_sample_no_curve() -> None:
    assert power_curve([], []) is None


def test_gaps_and_overlap() -> None:
    found = gaps([0.0, 0.1, 0.2, 2.2, 2.3, 5.0], 0.25)
    assert found == [(0.2, 2.2), (2.3, 5.0)]
    assert overlapping(found, 0.0, 0.2) == []
    assert overlapping(found, 1.0, 1.5) == [(0.2, 2.2)]
    assert overlapping(found, 2.1, 2.4) == found


@pytest.mark.parametrize(
    ("joules", "reset", "stuck"),
    [
        ([0.0, 10.0, 20.0, 30.0], False, False),
        ([100.0, 110.0, 5.0, 15.0], True, False),
        ([7.0, 7.0, 7.0, 7.0], False, True),
        ([0.0, 10.0, 10.0, 20.0], False, True),
    ],
)
def test_counter_health(joules: list[float], reset: bool, stuck: bool) -> None:
    health = counter_health([0.0, 1.0, 2.0, 3.0], joules)
    assert (health.reset, health.stuck, health.usable) == (reset, stuck, not (reset or stuck))


def test_two_quick_readings_inside_a_tick_are_not_stuck() -> None:
    assert counter_health([0.0, 0.01, 0.02, 0.11], [5.0, 5.0, 5.0, 6.0]).usable


@given(st.floats(0.0, 1.0), st.floats(1.0, 700.0), st.floats(0.0, 700.0))
def test_split_tick_finds_the_edge(part: float, inside_w: float, behind_w: float) -> None:
    period, tick = 0.1, 7.3
    edge = tick + part * period
    before = 1000.0
    after = before + inside_w * part * period + behind_w * (1 - part) * period
    found = split_tick(before, after, tick + period, period, edge, inside_w)
    assert found == pytest.approx(before + inside_w * part * period, abs=1e-6)


def test_split_tick_never_exceeds_what_the_counter_saw() -> None:
    assert split_tick(10.0, 11.0, 1.0, 0.1, 0.99, 700.0) == 11.0


def test_carry_and_difference() -> None:
    assert carry_from_tick(50.0, 100.0, 1.0, 1.02) == pytest.approx(52.0)
    assert relative_difference(105.0, 100.0) == pytest.approx(0.05)
    assert relative_difference(None, 1.0) is None
    assert relative_difference(1.0, 0.0) is None
    assert math.isclose(relative_difference(99.0, 100.0) or 0.0, -0.01)

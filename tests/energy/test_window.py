"""Which of counter and integral counts, and the marks of windows that hold few of their readings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import CURVES, FakeGpus, constant, run, truth

Fake = Callable[..., FakeGpus]


@pytest.mark.parametrize("seconds", [0.003, 0.03, 0.09, 0.3])
def test_windows_below_five_ticks_are_marked(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(constant(300.0))
    meter = run(gpus, seconds)
    block = meter.summary()
    assert {"short", "under_five_ticks"} <= set(block["devices"][0]["flags"])
    assert block["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.05, abs=1.0)


@pytest.mark.parametrize("seconds", [2.0, 2.37, 20.0])
def test_counter_alone_when_power_is_not_offered(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(constant(250.0), statements=[["unsupported power"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert device["method"] == "counter"
    assert "power_unsupported" in device["flags"]
    assert device["edges_aligned"]
    assert device["integral_j"] is None
    assert "NOT_SUPPORTED" in device["null_reasons"]["integral_j"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_a_slow_counter_is_aligned_too(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(CURVES["ramp"], statements=[["counter_tick 0.7"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert device["counter_tick_s"] == pytest.approx(0.7, abs=0.01)
    assert device["method"] == "counter"
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@pytest.mark.parametrize("tick_s", [0.6, 0.7, 1.0])
@pytest.mark.parametrize("seconds", [3.3, 7.0, 20.0])
def test_a_slow_counter_under_bursts(fake_gpus: Fake, tick_s: float, seconds: float) -> None:
    gpus = fake_gpus(CURVES["fast bursts"], statements=[[f"counter_tick {tick_s}"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert device["method"] == "counter"
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_few_samples_in_a_window_are_marked(fake_gpus: Fake) -> None:
    for hz, marked in ((1.0, True), (10.0, False)):
        gpus = fake_gpus(CURVES["bursts"], statements=[["unsupported counter", "unsupported record"]])
        device = run(gpus, 6.3, gpus.meter(sample_hz=hz)).summary()["devices"][0]
        assert ("coarse" in device["flags"]) == marked


@pytest.mark.parametrize(("seconds", "method"), [(3.0, "integral"), (40.0, "integral"), (400.0, "counter")])
def test_a_counter_too_slow_to_align_counts_over_long_windows_only(
    fake_gpus: Fake, seconds: float, method: str
) -> None:
    gpus = fake_gpus(CURVES["ramp"], statements=[["counter_tick 2"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert (device["method"], device["edges_aligned"]) == (method, False)
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_a_window_far_below_a_tick_has_no_negative_energy(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 700.0), (3.005, 700.0), (3.0051, 50.0), (100.0, 50.0)])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(2.95 - gpus.runtime.now())
    with meter.phase("short", short_ok=False):
        gpus.runtime.sleep(0.01)
    gpus.runtime.sleep(1.0)
    meter.stop()
    (phase,) = meter.phases()
    device = phase["energy"]["devices"][0]
    assert device["counter_j"] < 0
    assert device["method"] == "integral"
    assert device["gross_j"] >= 0
    assert {"short", "under_five_ticks"} <= set(device["flags"])


@pytest.mark.parametrize("lost", ["all", "counter"])
def test_a_loss_that_the_closing_edge_notices_is_marked(fake_gpus: Fake, lost: str) -> None:
    gpus = fake_gpus(constant(300.0), statements=[[f"fail_at {lost} 9.9 0 15"]])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(10.0)
    meter.stop()
    device = meter.summary()["devices"][0]
    assert (device["gross_j"] is None) == ("lost" in device["flags"])
    if lost == "all" or gpus.record:
        assert "lost" in device["flags"]
        assert device["partial_j"] > 2000


def test_a_starved_sampler_is_the_reason_and_not_the_counter_alone(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported counter", "unsupported record"]])
    gpus.runtime.starved = [(0.0, 100.0)]
    reason = run(gpus, 12.0).summary()["null_reasons"]["gross_j"]
    assert "no samples of power cover the window" in reason
    assert "NOT_SUPPORTED" in reason


@pytest.mark.parametrize(("burst_w", "marked"), [(600.0, True), (360.0, False)])
def test_counter_and_integral_are_marked_from_five_percent_on(fake_gpus: Fake, burst_w: float, marked: bool) -> None:
    """A burst of a second that only the counter saw: 10 % or 2 % of a window of 10 s."""
    curve = [(0.0, 300.0), (5.0, 300.0), (5.001, burst_w), (6.0, burst_w), (6.001, 300.0), (60.0, 300.0)]
    gpus = fake_gpus(curve, statements=[["record_hole 4.9 6.1", "fail_at power 4.9 6.1 10"]])
    meter = run(gpus, 10.0)
    device = meter.summary()["devices"][0]
    assert device["method"] == "counter"
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert ("differ" in device["flags"]) == marked
    assert "gap" in device["flags"]


def test_a_reset_is_seen_although_the_counter_has_made_up_for_it(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["counter_reset 30"]])
    meter = run(gpus, 120.0)
    device = meter.summary()["devices"][0]
    assert device["counter_j"] > 20_000
    assert device["method"] == "integral"
    assert "counter_reset" in device["flags"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)

"""The meter against scripted GPUs whose true energy is known, through the real NVML bindings."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from .conftest import CURVES, FakeGpus, bursts, constant, run, truth

Fake = Callable[..., FakeGpus]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seconds", [2.0, 2.37, 10.0, 30.03])
@pytest.mark.parametrize("statement", ["power_tick 0", "power_tick 0.1"])
def test_one_percent_from_two_seconds_on(fake_gpus: Fake, name: str, seconds: float, statement: str) -> None:
    gpus = fake_gpus(CURVES[name], statements=[[statement]])
    meter = run(gpus, seconds)
    block = meter.summary()
    assert block["devices"][0]["method"] == "counter"
    assert block["devices"][0]["edges_aligned"]
    assert block["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    json.dumps(block, allow_nan=False)


@pytest.mark.parametrize("name", ["constant", "ramp", "bursts"])
@pytest.mark.parametrize("seconds", [2.0, 10.0, 30.0])
def test_integral_without_a_counter(fake_gpus: Fake, name: str, seconds: float) -> None:
    gpus = fake_gpus(CURVES[name], statements=[["unsupported counter"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert device["method"] == "integral"
    assert "counter_unsupported" in device["flags"]
    assert "error 3 (NOT_SUPPORTED)" in device["null_reasons"]["counter_j"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@pytest.mark.parametrize("seed", range(25))
def test_random_steps(fake_gpus: Fake, seed: int) -> None:
    """Any load that is steady for a tick and a half where the window ends is measured to 1 %."""
    chance = random.Random(seed)
    seconds = chance.uniform(2.0, 8.0)
    curve, time_s, watts = [(0.0, 120.0)], 0.3, 120.0
    while time_s < 12.0:
        level = chance.uniform(80.0, 700.0)
        curve += [(time_s, watts), (time_s + 1e-6, level)]
        watts = level
        time_s += chance.uniform(0.3, 2.0)
    gpus = fake_gpus(curve, statements=[[f"power_tick {chance.choice([0.0, 0.05, 0.1])}"]])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(seconds)
    while any(0.0 <= gpus.runtime.now() - t < 0.15 for t, _ in curve):
        gpus.runtime.sleep(0.01)
    meter.stop()
    assert meter.summary()["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_exactly_constant_readings_are_energy(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported counter"]])
    meter = run(gpus, 10.0)
    assert meter.summary()["gross_j"] == pytest.approx(3000.0, rel=1e-4)


@pytest.mark.parametrize(("dip_w", "net"), [(1.5, True), (8.0, False)])
def test_a_board_that_wavers_at_rest_keeps_its_net(fake_gpus: Fake, dip_w: float, net: bool) -> None:
    low = 20.0 - dip_w
    curve = [(0.0, 20.0), (12.0, 20.0), (12.1, low), (14.0, low), (14.1, 300.0), (200.0, 300.0)]
    gpus = fake_gpus(curve)
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    assert meter.runtime.now() < 12.0
    gpus.runtime.sleep(20.0)
    meter.stop()
    device = meter.summary()["devices"][0]
    assert (device["net_j"] is not None) == net


def test_old_driver_without_instant_power(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(250.0), statements=[["unsupported instant"]])
    device = run(gpus, 3.0).summary()["devices"][0]
    assert device["power_source"] == ("record" if gpus.record else "average")
    assert ("power_averaged" in device["flags"]) == (not gpus.record)
    assert device["integral_j"] == pytest.approx(750.0, rel=0.01)


def test_two_gpus_are_summed_and_kept_apart(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), CURVES["ramp"])
    meter = run(gpus, 12.0)
    block = meter.summary()
    each = [truth(gpus, meter, 0), truth(gpus, meter, 1)]
    assert [device["gross_j"] for device in block["devices"]] == pytest.approx(each, rel=0.01)
    assert block["gross_j"] == pytest.approx(sum(each), rel=0.01)
    assert block["by_boundary"]["gpu_board"]["gross_j"] == pytest.approx(block["gross_j"])


def test_gross_net_and_idle_on_both_sides(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 120.0), (6.0, 120.0), (6.001, 600.0), (14.0, 600.0), (14.001, 150.0), (99.0, 150.0)])
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    gpus.runtime.sleep(14.2 - gpus.runtime.now())
    meter.stop()
    block = meter.summary()
    device = block["devices"][0]
    assert device["idle_before_w"] == pytest.approx(120.0, rel=0.01)
    assert device["idle_after_w"] == pytest.approx(150.0, rel=0.01)
    assert "idle_drift" in device["flags"]
    assert block["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert block["net_j"] == pytest.approx(block["gross_j"] - 120.0 * block["window_s"], rel=0.01)


def test_no_idle_measurement_leaves_net_null_with_a_reason(fake_gpus: Fake) -> None:
    block = run(fake_gpus(constant(300.0)), 3.0).summary()
    assert block["gross_j"] is not None
    assert block["net_j"] is None
    assert "idle_s is 0" in block["null_reasons"]["net_j"]
    assert "idle_s is 0" in block["null_reasons"]["idle_before_w"]


def test_counter_and_integral_that_disagree_are_both_kept(fake_gpus: Fake) -> None:
    # The sensor is read every 10 s of its own time, so the integral misses the load that the counter sees.
    gpus = fake_gpus(bursts(100.0, 700.0, 10.0, 4.0, 5, 1.0), statements=[["power_tick 10"]])
    device = run(gpus, 20.0).summary()["devices"][0]
    assert device["counter_j"] != device["integral_j"]
    assert abs(device["relative_difference"]) > 0.05
    assert "differ" in device["flags"]


def test_marks_of_the_board(fake_gpus: Fake) -> None:
    statements = [
        "throttle 2 4.5 64", "throttle 5 7.5 4", "limit 0 500", "limit 5 400", "process 1 1048576", "temperature 5 71",
    ]  # fmt: skip
    gpus = fake_gpus(constant(300.0), statements=[statements])
    block = run(gpus, 10.0).summary()
    device = block["devices"][0]
    assert {"throttled", "power_capped", "power_limit_changed", "power_limit_not_default"} <= set(device["flags"])
    assert device["throttle"]["hardware_thermal"] == pytest.approx(0.25, abs=0.16)  # read every 2 s
    assert (device["power_limit_before_w"], device["power_limit_w"]) == (500.0, 400.0)
    assert (device["temperature_before_c"], device["temperature_after_c"]) == (40, 71)
    assert all(entry["text"] for entry in block["flags"])


def test_a_throttling_between_two_readings_is_marked(fake_gpus: Fake) -> None:
    # 0.2 s of heat and 0.3 s at the power limit lie between the slow readings; the driver counts them all the same.
    gpus = fake_gpus(constant(300.0), statements=[["throttle 3.3 3.5 64", "throttle 7.3 7.6 4"]])
    device = run(gpus, 12.0).summary()["devices"][0]
    assert device["throttle"] == {}
    assert device["throttled_s"] == {"hardware_thermal": pytest.approx(0.2), "power_limit": pytest.approx(0.3)}
    assert {"throttled", "power_capped"} <= set(device["flags"])


def test_no_throttling_no_mark(fake_gpus: Fake) -> None:
    device = run(fake_gpus(constant(300.0), statements=[["throttle 90 91 64"]]), 5.0).summary()["devices"][0]
    assert device["throttled_s"] == {}
    assert not {"throttled", "power_capped"} & set(device["flags"])


def test_idle_power_waits_until_the_board_is_at_rest(fake_gpus: Fake) -> None:
    # Another process has just ended: 126 W for a while, then 81 W.
    gpus = fake_gpus([(0.0, 126.0), (4.0, 126.0), (4.01, 81.0), (30.0, 81.0), (30.01, 300.0), (200.0, 300.0)])
    meter = gpus.meter(idle_s=5.0)
    meter.start()
    gpus.runtime.sleep(40.0)
    meter.stop()
    (device,) = meter.summary()["devices"]
    assert device["idle_before_w"] == pytest.approx(81.0, abs=0.5)
    assert "idle_above_work" not in device["flags"]
    assert device["net_j"] == pytest.approx(device["gross_j"] - 81.0 * meter.summary()["window_s"], rel=0.01)


@pytest.mark.parametrize("idle_s", [1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("ended_s", [0.0, 1.0, 2.0, 2.9])
def test_the_afterglow_of_another_process_is_no_idle_power(fake_gpus: Fake, idle_s: float, ended_s: float) -> None:
    # It ended `ended_s` before this meter began: 126 W until three seconds behind its end, then 81 W.
    fall = 3.0 - ended_s
    points = [(-9.0, 600.0), (-ended_s - 0.01, 600.0), (-ended_s, 126.0), (fall, 126.0), (fall + 0.01, 81.0)]
    gpus = fake_gpus([*points, (40.0, 81.0), (40.01, 500.0), (900.0, 500.0)])
    meter = gpus.meter(idle_s=idle_s)
    meter.start()
    waited = gpus.runtime.now()
    gpus.runtime.sleep(50.0)
    meter.stop()
    (device,) = meter.summary()["devices"]
    assert device["idle_before_w"] == pytest.approx(81.0, abs=0.5)
    assert not {"idle_not_settled", "idle_above_work", "idle_unsteady"} & set(device["flags"])
    assert waited < fall + max(idle_s, 4.0) + 1.5


def test_a_board_that_never_rests_is_marked(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["fast bursts"])
    meter = gpus.meter(idle_s=2.0)
    meter.start()
    assert 20.0 <= gpus.runtime.now() < 22.0
    gpus.runtime.sleep(3.0)
    meter.stop()
    block = meter.summary()
    assert "idle_not_settled" in block["devices"][0]["flags"]
    assert "idle_not_settled" in {entry["flag"] for entry in block["flags"]}


def test_a_board_at_rest_is_not_waited_for(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(81.0))
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    # The driver's record tells the seconds before; without it four seconds must be seen.
    assert gpus.runtime.now() < (3.4 if gpus.record else 4.9)
    meter.stop()


def test_a_context_held_before_is_marked(fake_gpus: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gainwatt.energy.meter.cuda_in_use", lambda: True)
    gpus = fake_gpus(constant(123.0))
    block = run(gpus, 3.0, gpus.meter(idle_s=1.0)).summary()
    assert "idle_with_context" in block["devices"][0]["flags"]


def test_net_is_null_where_the_board_was_not_at_rest(fake_gpus: Fake) -> None:
    # The whole idle time lies in the higher state, and the work draws less than that.
    gpus = fake_gpus([(0.0, 126.0), (6.0, 126.0), (6.01, 81.0), (200.0, 81.0)])
    meter = gpus.meter(idle_s=2.0)
    meter.start()
    with meter.phase("load"):
        gpus.runtime.sleep(20.0)
    meter.stop()
    block = meter.summary()
    (device,) = block["devices"]
    assert 81.0 * block["window_s"] < device["gross_j"] < 100.0 * block["window_s"]
    assert (device["net_j"], block["net_j"], block["phase_totals"][0]["net_j"]) == (None, None, None)
    assert "idle_above_work" in device["flags"]
    assert "not at rest" in device["null_reasons"]["net_j"]
    assert "not at rest" in block["null_reasons"]["net_j"]
    (phase,) = meter.phases()
    for part in (phase["energy"], phase["energy"]["devices"][0], block["phase_totals"][0]):
        assert "idle_above_work" in part["flags"]
        assert "not at rest" in part["net_reason"]


def test_a_mean_below_idle_makes_net_null(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 126.0), (5.0, 126.0), (5.01, 123.0), (200.0, 123.0)])
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    gpus.runtime.sleep(60.0)
    meter.stop()
    block = meter.summary()
    assert block["gross_j"] == pytest.approx(123.0 * block["window_s"], rel=0.01)
    assert block["net_j"] is None
    assert "mean of" in block["null_reasons"]["net_j"]


def test_counter_is_read_rarely(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0))
    meter = gpus.meter()
    meter.start()
    before = gpus.calls(0, 1)
    gpus.runtime.sleep(60.0)
    assert gpus.calls(0, 1) - before <= 60
    meter.stop()


def test_start_and_stop_twice_and_summary_without_start(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0))
    meter = gpus.meter()
    assert meter.summary()["null_reasons"]["gross_j"] == "the meter was not started"
    assert meter.phases() == []
    meter.start()
    meter.start()
    gpus.runtime.sleep(2.0)
    meter.stop()
    first = meter.summary()
    meter.stop()
    assert meter.summary() == first


def test_summary_while_running_covers_the_time_so_far(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0))
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(4.0)
    assert meter.summary()["gross_j"] == pytest.approx(1200.0, rel=0.05)
    meter.stop()


def test_zero_watts_are_kept_and_marked(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 0.0), (100.0, 0.0)], statements=[["unsupported counter"]])
    device = run(gpus, 3.0).summary()["devices"][0]
    assert device["gross_j"] == 0.0
    assert "zero_power" in device["flags"]

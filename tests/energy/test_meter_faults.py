"""The meter when something fails: every case against the true energy of the scripted boards."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .conftest import CURVES, FakeGpus, constant, run, truth

Fake = Callable[..., FakeGpus]


def test_neither_counter_nor_power(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(250.0), statements=[["unsupported power", "unsupported counter"]])
    block = run(gpus, 3.0).summary()
    assert block["gross_j"] is None
    assert "NOT_SUPPORTED" in block["null_reasons"]["gross_j"]


@pytest.mark.parametrize("read", [5, 20, 60])
def test_gpu_lost_at_read_k(fake_gpus: Fake, read: int) -> None:
    # Sixty polls or five readings of the driver's record: both are about six seconds.
    statements = [[f"fail power {read} 0 15", f"fail record {3 + read // 12} 0 15", "fail_at counter 0.5 0 15"]]
    gpus = fake_gpus(constant(300.0), statements=statements)
    meter = gpus.meter()
    meter.start()
    done = []
    with meter.phase("work"):
        gpus.runtime.sleep(10.0)
        done.append("the work is done")
    meter.stop()
    block = meter.summary()
    assert done
    assert block["gross_j"] is None
    assert block["net_j"] is None
    device = block["devices"][0]
    assert "lost" in device["flags"]
    assert "error 15 (GPU_IS_LOST)" in device["null_reasons"]["gross_j"]
    assert device["errors"]["first"][0]["code"] == 15
    assert device["errors"]["count"] < 10
    work = meter.phases()[0]["energy"]
    assert work["gross_j"] is None
    assert "GPU_IS_LOST" in work["reason"]
    json.dumps(block, allow_nan=False)


def test_phases_before_the_loss_keep_their_energy(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["fail_at all 6 0 15"]])
    meter = gpus.meter()
    meter.start()
    with meter.phase("before"):
        gpus.runtime.sleep(4.0)
    with meter.phase("after"):
        gpus.runtime.sleep(4.0)
    meter.stop()
    before, after = meter.phases()
    assert before["energy"]["gross_j"] == pytest.approx(1200.0, rel=0.01)
    assert after["energy"]["gross_j"] is None
    partial = after["energy"]["devices"][0]["partial_j"]
    assert 0.0 < partial < 600.0


def test_a_passing_timeout_costs_samples_and_no_energy(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["fail_at power 3 4 10", "fail_at record 3 4 10"]])
    meter = run(gpus, 10.0)
    device = meter.summary()["devices"][0]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert "read_errors" in device["flags"]
    # The next reading of the record brings what the failed one did not.
    assert ("gap" in device["flags"]) == (not gpus.record)
    assert device["errors"]["count"] >= (1 if gpus.record else 9)


def test_stuck_counter_gives_way_to_the_integral(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["counter_stick 0.2"]])
    meter = run(gpus, 10.0)
    device = meter.summary()["devices"][0]
    assert device["method"] == "integral"
    assert "counter_stuck" in device["flags"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_counter_that_sticks_in_the_middle(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["counter_stick 12"]])
    meter = run(gpus, 40.0)
    device = meter.summary()["devices"][0]
    assert device["method"] == "integral"
    assert "counter_stuck" in device["flags"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_counter_reset_gives_way_to_the_integral(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["counter_offset 1000000", "counter_reset 5"]])
    meter = run(gpus, 20.0)
    device = meter.summary()["devices"][0]
    assert device["method"] == "integral"
    assert "counter_reset" in device["flags"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_one_of_two_gpus_lost_makes_the_sum_null_and_keeps_the_other(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), constant(200.0), statements=[[], ["fail_at all 4 0 15"]])
    meter = run(gpus, 12.0)
    block = meter.summary()
    assert block["gross_j"] is None
    assert block["null_reasons"]["gross_j"].startswith("gpu:1")
    assert block["devices"][0]["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


def test_sampler_starved_for_two_seconds(fake_gpus: Fake) -> None:
    # A record of 2.36 s outlives two seconds; polled power has a hole of that size.
    gpus = fake_gpus(CURVES["bursts"])
    seconds = 4.0 if gpus.record else 2.0
    gpus.runtime.starved = [(7.0, 7.0 + seconds)]
    meter = run(gpus, 20.0)
    block = meter.summary()
    device = block["devices"][0]
    assert device["method"] == "counter"
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert "gap" in device["flags"]
    assert block["sampling"]["gaps"] == 1
    if gpus.record:
        assert 1.2 < block["sampling"]["longest_gap_s"] < 4.0
        assert block["sampling"]["missed"] > 50
        return
    assert block["sampling"]["longest_gap_s"] == pytest.approx(2.0, abs=0.15)
    assert block["sampling"]["missed"] >= 18


def test_starved_without_a_counter_is_marked(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["bursts"], statements=[["unsupported counter"]])
    gpus.runtime.starved = [(7.0, 11.0)]
    assert "gap" in run(gpus, 20.0).summary()["devices"][0]["flags"]


def test_unsupported_side_readings_do_no_harm(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported slow", "unsupported limit"]])
    device = run(gpus, 3.0).summary()["devices"][0]
    assert device["gross_j"] == pytest.approx(900.0, rel=0.01)
    assert device["power_limit_w"] is None
    assert device["temperature_before_c"] is None


def test_exception_in_the_work_passes_and_the_energy_is_kept(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0))
    meter = gpus.meter()

    def work() -> None:
        with meter, meter.phase("work"):
            gpus.runtime.sleep(3.0)
            raise KeyError("the work failed")

    with pytest.raises(KeyError):
        work()
    assert meter.summary()["gross_j"] == pytest.approx(900.0, rel=0.01)
    assert meter.phases()[0]["error"] == "KeyError"


def test_a_failing_synchronize_is_reported_and_harmless(fake_gpus: Fake) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    gpus = fake_gpus(constant(300.0))
    meter = run(gpus, 2.0, gpus.meter(synchronize=broken))
    assert meter.summary()["gross_j"] == pytest.approx(600.0, rel=0.01)
    assert "illegal memory access" in meter.summary()["null_reasons"]["meter"]


@pytest.mark.parametrize(
    ("seconds", "stick", "tick"), [(20.0, 3.0, 0.1), (60.0, 57.0, 0.1), (12.0, 11.0, 0.1), (130.0, 90.0, 1.0)]
)
def test_a_counter_that_stands_when_the_window_closes_is_not_counted(
    fake_gpus: Fake, seconds: float, stick: float, tick: float
) -> None:
    # The sampler reads the counter every 25 s, so that only the wait for the closing tick sees it.
    gpus = fake_gpus(CURVES["bursts"], statements=[[f"counter_stick {stick}", f"counter_tick {tick}"]])
    meter = run(gpus, seconds)
    device = meter.summary()["devices"][0]
    assert device["method"] == "integral"
    assert "counter_stuck" in device["flags"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@pytest.mark.parametrize("lost_s", [3.97, 3.9, 3.7, 3.5])
def test_a_board_lost_just_before_the_end_is_marked(fake_gpus: Fake, lost_s: float) -> None:
    gpus = fake_gpus(CURVES["fast bursts"], statements=[[f"fail_at all {lost_s} 0 15"]])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(4.0 - gpus.runtime.now())
    meter.stop()
    device = meter.summary()["devices"][0]
    assert {"gap", "lost"} & set(device["flags"])
    assert (device["gross_j"] is None) == ("lost" in device["flags"])


def test_one_standing_counter_leaves_the_other_its_ticks(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), CURVES["fast bursts"], statements=[["counter_stick 0"], []])
    meter = run(gpus, 3.0)
    first, second = meter.summary()["devices"]
    assert first["method"] == "integral"
    assert second["method"] == "counter"
    assert second["edges_aligned"]


def test_reasons_of_a_lost_board_stand_beside_each_null(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["fail_at all 3 0 15"]])
    meter = gpus.meter()
    meter.start()
    with meter.phase("work"):
        gpus.runtime.sleep(6.0)
    meter.stop()
    (phase,) = meter.phases()
    (device,) = phase["energy"]["devices"]
    assert device["gross_j"] is None
    assert "GPU_IS_LOST" in device["reason"]
    assert "GPU_IS_LOST" in phase["energy"]["reason"]
    (total,) = meter.summary()["phase_totals"]
    assert total["method"] is None
    assert "1 of 1" in total["reason"]

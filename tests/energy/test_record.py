"""The driver's own record of power: every kind of curve, and every way in which the record can fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.device import DeviceError
from gainwatt.energy.nvml import open_nvml
from gainwatt.energy.nvml_power import judge_record

from .conftest import CURVES, FakeGpus, constant, run, truth

Fake = Callable[..., FakeGpus]
recorded = pytest.mark.parametrize("fake_gpus", ["record"], indirect=True)


def integral_error(gpus: FakeGpus, meter: EnergyMeter, device: int = 0) -> float:
    entry = meter.summary()["devices"][device]
    assert entry["power_source"] == "record"
    return abs(entry["integral_j"] / truth(gpus, meter, device) - 1)


@recorded
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seconds", [2.0, 2.37, 10.0, 30.03])
def test_integral_of_the_record(fake_gpus: Fake, name: str, seconds: float) -> None:
    gpus = fake_gpus(CURVES[name], statements=[["unsupported counter"]])
    meter = run(gpus, seconds)
    assert integral_error(gpus, meter) < 0.01
    sampling = meter.summary()["sampling"]
    assert sampling["effective_hz"] == pytest.approx(50.0, rel=0.03)
    assert (sampling["gaps"], sampling["missed"], sampling["nominal_hz"]) == (0, 0, 10.0)


@recorded
def test_exactly_constant_record(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported counter"]])
    assert integral_error(gpus, run(gpus, 10.0)) < 1e-6


@recorded
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5])
def test_value_types(fake_gpus: Fake, kind: int) -> None:
    gpus = fake_gpus(CURVES["ramp"], statements=[[f"record 0.02 119 {kind}", "unsupported counter"]])
    assert integral_error(gpus, run(gpus, 8.0)) < 0.01


@recorded
def test_short_value_type(fake_gpus: Fake) -> None:
    # 16 bits hold 65 W in milliwatts.
    gpus = fake_gpus(constant(61.5), statements=[["record 0.02 119 6", "unsupported counter"]])
    assert integral_error(gpus, run(gpus, 3.0)) < 1e-3


@recorded
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("unsupported record", "NOT_SUPPORTED"),
        ("record 0.02 119 7", "type 7"),
        ("record 0.5 119 1", "polling is better"),
        ("record 0.02 12 1", "too few"),
        ("record 0.02 40 1", "polling is better"),
        ("record_hole -100 100", "too few"),
        ("fail record 2 0 4", "NO_PERMISSION"),
        ("record_stick -30", "not of now"),
    ],
)
def test_a_record_that_cannot_be_used_leaves_polling(fake_gpus: Fake, statement: str, reason: str) -> None:
    gpus = fake_gpus(CURVES["bursts"], statements=[[statement]])
    meter = run(gpus, 10.0)
    (device,) = meter.summary()["devices"]
    assert device["power_source"] == "instant"
    assert reason in meter.tracks[0].device.missing["record"]
    assert meter.summary()["sampling"]["effective_hz"] == pytest.approx(10.0, rel=0.02)
    assert device["integral_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@recorded
def test_a_higher_rate_than_the_record_has_is_polled(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    (device,) = run(gpus, 3.0, gpus.meter(sample_hz=100.0)).summary()["devices"]
    assert device["power_source"] == "instant"


@recorded
@pytest.mark.parametrize("statement", ["record_stick 5", "fail_at record 5 0 10", "fail_at record 5 0 3"])
def test_a_record_that_stops_gives_way_to_polling(fake_gpus: Fake, statement: str) -> None:
    gpus = fake_gpus(CURVES["bursts"], statements=[[statement]])
    meter = run(gpus, 20.0)
    block = meter.summary()
    (device,) = block["devices"]
    assert device["method"] == "counter"
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert {"record_ended", "gap"} <= set(device["flags"])
    assert block["sampling"]["round_s"] == pytest.approx(0.1)
    assert "stopped" in device["sampling"]["record_ended"]["text"]
    # From about three seconds after the end of the record on there are ten samples a second.
    late = meter.tracks[0].count(9.0, 19.0)
    assert 95 <= late <= 105


@recorded
def test_an_empty_answer_in_between_costs_nothing(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["ramp"], statements=[["fail_at record 4 4.9 6", "unsupported counter"]])
    meter = run(gpus, 12.0)
    (device,) = meter.summary()["devices"]
    assert integral_error(gpus, meter) < 0.01
    assert not {"gap", "record_ended", "read_errors"} & set(device["flags"])


@recorded
def test_a_hole_in_the_record_is_a_gap(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["bursts"], statements=[["record_hole 3 3.6"]])
    meter = run(gpus, 12.0)
    block = meter.summary()
    assert "gap" in block["devices"][0]["flags"]
    assert block["sampling"]["longest_gap_s"] == pytest.approx(0.62, abs=0.03)
    assert block["sampling"]["missed"] == pytest.approx(30, abs=1)
    assert block["devices"][0]["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)


@recorded
@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_a_starved_sampler_loses_nothing_that_the_record_still_holds(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(CURVES["bursts"], statements=[["unsupported counter"]])
    gpus.runtime.starved = [(7.0, 7.0 + seconds)]
    meter = run(gpus, 20.0)
    assert integral_error(gpus, meter) < 0.01
    assert meter.summary()["sampling"]["gaps"] == 0


@recorded
@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_starved_for_longer_than_the_record_the_counter_covers(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(CURVES["fast bursts"])
    gpus.runtime.starved = [(7.0, 7.0 + seconds)]
    meter = run(gpus, 20.0)
    (device,) = meter.summary()["devices"]
    lost = meter.summary()["sampling"]["missed"]
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert (lost > 0) == ("gap" in device["flags"])
    assert lost <= 50 * seconds


@recorded
@pytest.mark.parametrize("step_s", [-3.0, -0.7, -0.1, 0.1, 0.7, 3.0, 3600.0])
@pytest.mark.parametrize("stamps", ["sampled", "asked"])
@pytest.mark.parametrize("when_s", [5.003, 5.9])
def test_a_stepped_wall_clock_shifts_nothing(fake_gpus: Fake, step_s: float, stamps: str, when_s: float) -> None:
    gpus = fake_gpus(
        CURVES["fast bursts"],
        head=[f"wall_step {when_s} {step_s}"],
        statements=[["unsupported counter", f"record_stamps {stamps}"]],
    )
    meter = run(gpus, 15.0)
    (device,) = meter.summary()["devices"]
    assert integral_error(gpus, meter) < 0.01
    assert "clock_step" in device["flags"]
    times = meter.tracks[0].times
    assert all(early < late for early, late in itertools.pairwise(times))
    assert max(late - early for early, late in itertools.pairwise(times)) < 0.15
    assert len(times) == pytest.approx(50 * (times[-1] - times[0]), abs=10)


@recorded
def test_a_step_that_no_window_touches_marks_none(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0), head=["wall_step 3 -2"])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(6.0)
    with meter.phase("later"):
        gpus.runtime.sleep(4.0)
    meter.stop()
    assert "clock_step" not in meter.phases()[0]["energy"]["flags"]
    assert "clock_step" in meter.summary()["devices"][0]["flags"]


@recorded
def test_two_boards_one_of_them_without_a_record(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["ramp"], CURVES["bursts"], statements=[[], ["unsupported record"]])
    meter = run(gpus, 12.0)
    block = meter.summary()
    assert [device["power_source"] for device in block["devices"]] == ["record", "instant"]
    rates = [device["sampling"]["effective_hz"] for device in block["devices"]]
    assert rates == pytest.approx([50.0, 10.0], rel=0.03)
    assert "NOT_SUPPORTED" in block["devices"][1]["sampling"]["no_record"]
    assert block["sampling"]["effective_hz"] == pytest.approx(10.0, rel=0.03)
    for number, device in enumerate(block["devices"]):
        assert device["integral_j"] == pytest.approx(truth(gpus, meter, number), rel=0.01)
        assert device["gross_j"] == pytest.approx(truth(gpus, meter, number), rel=0.01)
    # The board with the record is still read about once a second.
    assert gpus.calls(0, 3) < 25


@recorded
def test_two_boards_with_a_record_each(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["ramp"], CURVES["bursts"], statements=[["unsupported counter"], ["unsupported counter"]])
    meter = run(gpus, 12.0)
    assert integral_error(gpus, meter, 0) < 0.01
    assert integral_error(gpus, meter, 1) < 0.01


@recorded
def test_the_window_is_closed_by_a_sample_behind_its_edge(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported counter"]])
    meter = run(gpus, 2.0)
    assert meter.end_s is not None
    assert meter.end_s <= meter.tracks[0].times[-1] <= meter.end_s + 0.2


@recorded
def test_a_report_while_running_reads_the_record(fake_gpus: Fake) -> None:
    gpus = fake_gpus(CURVES["bursts"])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(5.5)
    assert meter.summary()["devices"][0]["integral_j"] == pytest.approx(
        gpus.truth_j(meter.start_s or 0.0, gpus.runtime.now()), rel=0.02
    )
    meter.stop()


@recorded
def test_short_phases_are_seen_at_fifty_hertz(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 100.0), (5.0, 100.0), (5.00001, 500.0), (9.0, 500.0)])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(5.0 - gpus.runtime.now())
    with meter.phase("update"):
        gpus.runtime.sleep(0.4)
    meter.stop()
    # Half a sample of 400 W is what the border may cost; polling ten times a second it would be five times that.
    assert meter.phases()[0]["energy"]["gross_j"] == pytest.approx(200.0, abs=0.5 * 0.02 * 400.0 + 0.1)


@recorded
def test_the_record_grows_when_the_driver_says_so(fake_gpus: Fake) -> None:
    fake_gpus(constant(100.0), statements=[["record 0.005 900 1"]])
    (device,) = open_nvml({}).devices
    assert len(device.read_record()) == 900
    assert device.record == pytest.approx((0.005, 4.495))


def test_judge_record() -> None:
    assert judge_record([20_000 * n for n in range(119)]) == pytest.approx((0.02, 2.36))
    for stamps in ([], [5] * 100, [1_000_000 * n for n in range(50)]):
        with pytest.raises(DeviceError):
            judge_record(stamps)

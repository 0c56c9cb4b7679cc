from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gainwatt.energy.clock import SystemRuntime
from gainwatt.energy.device import GPU_BOARD, NullDevice
from gainwatt.energy.sampler import counter_period_s
from gainwatt.energy.track import Track

from .conftest import FakeGpus, constant


def test_real_thread_polls_until_stopped() -> None:
    enough = threading.Event()
    count = []

    def poll() -> None:
        count.append(1)
        if len(count) >= 3:
            enough.set()

    loop = SystemRuntime().start_loop(poll, 0.01)
    assert enough.wait(timeout=30.0)
    loop.stop()
    after = len(count)
    assert loop.cpu_s > 0.0
    enough.clear()
    assert not enough.wait(timeout=0.05)
    assert len(count) == after


def test_a_loop_of_long_rounds_is_stopped_at_once() -> None:
    # `stop` gives up after 5 s and then says so.
    assert SystemRuntime().start_loop(lambda: None, 3600.0).stop()


def test_rounds_can_become_more_frequent() -> None:
    enough = threading.Event()
    count = []

    def poll() -> None:
        count.append(1)
        if len(count) == 1:
            ready.wait(timeout=30.0)
            loop.set_period(0.01)
        elif len(count) >= 4:
            enough.set()

    ready = threading.Event()
    loop = SystemRuntime().start_loop(poll, 3600.0)
    ready.set()
    assert enough.wait(timeout=30.0)
    assert loop.stop()


def test_dear_counters_are_read_rarely() -> None:
    assert counter_period_s(0.0) == 1.0
    assert counter_period_s(0.0025) == pytest.approx(25.0, abs=0.01)
    assert counter_period_s(1.0) == 30.0


def test_cost_of_the_counter_sets_its_period(fake_gpus: Callable[..., FakeGpus]) -> None:
    gpus = fake_gpus(constant(100.0))
    meter = gpus.meter(sample_hz=20.0)
    meter.start()
    gpus.runtime.sleep(30.0)
    meter.stop()
    sampling = meter.summary()["sampling"]
    assert sampling["counter_period_s"] == pytest.approx(25.0, abs=0.5)
    assert sampling["nominal_hz"] == 20.0
    assert sampling["effective_hz"] == pytest.approx(50.0 if gpus.record else 20.0, rel=0.01)
    assert sampling["round_s"] == pytest.approx(1.18 if gpus.record else 0.05)
    assert sampling["missed"] == 0


def test_null_device_carries_its_reason() -> None:
    device = NullDevice(GPU_BOARD, "no driver")
    track = Track(device, lambda: 1.0)
    track.sample(slow=True, counter=True)
    assert track.power_curve() is None
    assert track.counter_curve() is None
    assert device.missing["power"] == "no driver"
    assert track.read_counter()[1] != track.read_counter()[1]
    assert track.lost is not None
    assert track.lost.text == "no driver"


def test_a_device_that_raises_what_it_should_not_does_not_end_the_sampling(
    fake_gpus: Callable[..., FakeGpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = fake_gpus(constant(200.0), constant(100.0))
    meter = gpus.meter()
    meter.start()

    def broken() -> None:
        raise RuntimeError("no thermometer")

    monkeypatch.setattr(meter.tracks[0].device, "slow", broken)
    gpus.runtime.sleep(6.0)
    meter.stop()
    first, second = meter.summary()["devices"]
    assert first["gross_j"] == pytest.approx(1200.0, rel=0.01)
    assert second["gross_j"] == pytest.approx(600.0, rel=0.01)
    assert "no thermometer" in first["errors"]["first"][0]["text"]
    assert "read_errors" in first["flags"]
    assert second["flags"] == []

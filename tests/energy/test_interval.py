"""Energy of a stretch that nobody marked beforehand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.interval import energy_between

from .conftest import FakeGpus

Fake = Callable[..., FakeGpus]


def test_a_stretch_of_the_time_so_far(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 100.0), (20.0, 100.0), (20.001, 300.0), (100.0, 300.0)])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(40.0 - gpus.runtime.now())
    quiet, busy = energy_between(meter, 12.0, 18.0), energy_between(meter, 22.0, 34.0)
    meter.stop()
    assert quiet["gross_j"] == pytest.approx(600.0, rel=0.01)
    assert busy["gross_j"] == pytest.approx(3600.0, rel=0.01)
    assert busy["seconds"] == 12.0
    assert "short" in energy_between(meter, 22.0, 24.0)["flags"]


def test_without_a_meter_the_joules_are_null_with_the_reason() -> None:
    meter = EnergyMeter(idle_s=0, rapl=False, environ={"CUDA_VISIBLE_DEVICES": ""})
    meter.start()
    found = energy_between(meter, 0.0, 1.0)
    meter.stop()
    assert (found["gross_j"], found["net_j"]) == (None, None)
    assert found["reason"]

"""When a board is at rest, and what idle power says about short work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gainwatt.energy.idle import SETTLE_SEEN_S, wait_for_rest

from .conftest import FakeGpus, constant

Fake = Callable[..., FakeGpus]


def test_a_tenth_of_a_second_below_idle_blames_no_other_program(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 81.0), (40.0, 81.0), (40.001, 78.0), (200.0, 78.0)])
    first = gpus.meter(idle_s=3.0)
    began = gpus.runtime.now()
    first.start()
    took = gpus.runtime.now() - began
    first.stop()
    gpus.runtime.sleep(39.95 - took - gpus.runtime.now())
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    gpus.runtime.sleep(0.3)
    meter.stop()
    block = meter.summary()
    assert block["window_s"] < 1.0
    assert block["net_j"] is None
    assert "below_idle" in block["devices"][0]["flags"]
    assert "are less than the idle power" in block["null_reasons"]["net_j"]
    assert "another program" not in block["null_reasons"]["net_j"]


def test_the_afterglow_of_a_process_that_ended_is_waited_for(fake_gpus: Fake) -> None:
    # A process ends 50 s after the start; the board stays at 126 W for 3 s, and then falls to 81 W.
    points = [(0.0, 81.0), (20.0, 81.0), (20.01, 600.0), (50.0, 600.0), (50.01, 126.0), (53.0, 126.0), (53.01, 81.0)]
    gpus = fake_gpus([*points, (500.0, 81.0)])
    meter = gpus.meter(idle_s=2.0)
    meter.start()
    gpus.runtime.sleep(50.02 - gpus.runtime.now())
    assert wait_for_rest(meter) is True
    assert 56.9 <= gpus.runtime.now() < 60.0
    again = gpus.runtime.now()
    assert wait_for_rest(meter) is True
    assert gpus.runtime.now() - again == pytest.approx(SETTLE_SEEN_S, abs=0.05)
    meter.stop()


def test_a_board_that_never_rests_is_waited_for_no_longer_than_told(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(float(t), 100.0 + 200.0 * (t % 2)) for t in range(200)])
    meter = gpus.meter(idle_s=0.0)
    meter.start()
    gpus.runtime.sleep(10.0)
    began = gpus.runtime.now()
    assert wait_for_rest(meter, patience_s=6.0) is False
    assert gpus.runtime.now() - began == pytest.approx(6.25, abs=0.3)
    meter.stop()


def test_without_power_there_is_nothing_to_wait_for(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported power"]])
    meter = gpus.meter(idle_s=0.0)
    meter.start()
    began = gpus.runtime.now()
    assert wait_for_rest(meter) is None
    assert gpus.runtime.now() == began
    meter.stop()

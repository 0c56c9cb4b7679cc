"""The feed of a driver's record across any sequence of clock steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.energy.device import GPU_BOARD, Device, DeviceError, DeviceInfo
from gainwatt.energy.feed import Feed


class Recorded(Device):
    """A record that the test fills, on two clocks that it moves."""

    def __init__(self) -> None:
        super().__init__(DeviceInfo("gpu:0", GPU_BOARD, "test", "test"), record=(0.02, 2.36))
        self.now_s, self.offset_s = 100.0, 5000.0
        self.samples: list[tuple[int, float]] = []

    def wait(self, samples: int) -> None:
        for _ in range(samples):
            self.now_s += 0.02
            self.samples.append((round(1e6 * (self.now_s + self.offset_s)), self.now_s))
        del self.samples[:-119]

    def power_w(self) -> float:
        raise DeviceError("not asked")

    def counter_j(self) -> float:
        raise DeviceError("not asked")

    def read_record(self, after_us: int = 0) -> list[tuple[int, float]]:
        return [sample for sample in self.samples if sample[0] > after_us]


STEPS = [0.0, 0.0, 0.0, -400.0, -2.0, -0.3, -0.06, 0.06, 0.5, 2.0, 1e5]


@given(
    st.lists(
        st.tuples(st.integers(1, 58), st.sampled_from(STEPS)),
        min_size=1,
        max_size=12,
    )
)
def test_feed_survives_any_sequence_of_steps_that_are_two_records_apart(rounds: list[tuple[int, float]]) -> None:
    """Each sample's value is its true time: the feed must name that time, once, in order, and lose none."""
    device = Recorded()
    device.wait(119)
    feed = Feed(device, (0.02, 2.36), lambda: device.now_s, lambda: device.now_s + device.offset_s)
    found: list[tuple[float, float]] = []
    for samples, step_s in rounds:
        feed.drain(lambda time_s, value: found.append((time_s, value)))
        device.wait(samples)
        if step_s:
            device.offset_s += step_s
            for _ in range(6):
                device.wait(60)
                feed.drain(lambda time_s, value: found.append((time_s, value)))
    feed.drain(lambda time_s, value: found.append((time_s, value)))
    assert all(abs(time_s - true_s) < 1e-3 for time_s, true_s in found)
    assert [time_s for time_s, _ in found] == sorted({time_s for time_s, _ in found})
    assert len(found) == pytest.approx((device.now_s - found[0][1]) / 0.02 + 1, abs=0.5)

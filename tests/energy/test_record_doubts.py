"""Records of power whose order, clock or unit is not what the program takes them for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gainwatt.energy.nvml import NvmlDevice

from .conftest import CURVES, FakeGpus, run, truth

Fake = Callable[..., FakeGpus]
recorded = pytest.mark.parametrize("fake_gpus", ["record"], indirect=True)
DAY_US = 86_400_000_000
TRICKS: dict[str, tuple[Callable[[list[tuple[int, float]]], list[tuple[int, float]]], str | None]] = {
    "out of order": (lambda found: found[1::2] + found[::2], None),
    "every stamp twice": (lambda found: [sample for sample in found for _ in (0, 1)], None),
    "one stamp of tomorrow": (lambda found: [*found, (found[-1][0] + DAY_US, 5.0)] if found else [], None),
    "a second ahead": (lambda found: [(stamp + 1_000_000, watts) for stamp, watts in found], "future"),
    "0.4 s late": (lambda found: [(stamp - 400_000, watts) for stamp, watts in found], "not of now"),
    "another epoch": (lambda found: [(stamp % 1_000_000_000, watts) for stamp, watts in found], "not of now"),
    "microwatts": (lambda found: [(stamp, 1000 * watts) for stamp, watts in found], "polled power says"),
    "watts": (lambda found: [(stamp, watts / 1000) for stamp, watts in found], "polled power says"),
    "below zero": (lambda found: [(stamp, -watts) for stamp, watts in found], "polled power says"),
}


@recorded
@pytest.mark.parametrize("trick", TRICKS)
def test_a_record_that_is_not_what_it_should_be(fake_gpus: Fake, monkeypatch: pytest.MonkeyPatch, trick: str) -> None:
    change, reason = TRICKS[trick]
    read = NvmlDevice.read_record
    monkeypatch.setattr(NvmlDevice, "read_record", lambda device, after_us=0: change(read(device, after_us)))
    gpus = fake_gpus(CURVES["bursts"], statements=[["unsupported counter"]])
    meter = run(gpus, 12.0)
    (device,) = meter.summary()["devices"]
    assert device["power_source"] == ("record" if reason is None else "instant")
    assert (reason or "") in meter.tracks[0].device.missing.get("record", "")
    assert device["gross_j"] == pytest.approx(truth(gpus, meter), rel=0.01)
    assert sorted(set(meter.tracks[0].times)) == list(meter.tracks[0].times)

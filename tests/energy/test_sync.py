from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest

from gainwatt.energy import cuda_synchronize

from .conftest import FakeGpus, constant


def fake_torch(devices: dict[int, int], initialized: bool = True) -> tuple[types.SimpleNamespace, list[object]]:
    waited: list[object] = []
    cuda = types.SimpleNamespace(
        is_initialized=lambda: initialized,
        device_count=lambda: len(devices),
        memory_reserved=lambda index: devices[index],
        synchronize=lambda *index: waited.append(index),
    )
    return types.SimpleNamespace(cuda=cuda), waited


def test_waits_for_used_devices_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, waited = fake_torch({0: 100, 1: 0, 2: 5})
    monkeypatch.setitem(sys.modules, "torch", torch)
    cuda_synchronize()
    assert waited == [(0,), (2,)]


def test_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, waited = fake_torch({0: 0})
    monkeypatch.setitem(sys.modules, "torch", torch)
    cuda_synchronize()
    assert waited == [()]


def test_makes_no_context_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, waited = fake_torch({0: 1}, initialized=False)
    monkeypatch.setitem(sys.modules, "torch", torch)
    cuda_synchronize()
    assert waited == []
    monkeypatch.delitem(sys.modules, "torch")
    cuda_synchronize()
    assert "torch" not in sys.modules


@pytest.mark.parametrize("short_ok", [True, False])
def test_a_phase_holds_the_work_that_was_queued_in_it(fake_gpus: Callable[..., FakeGpus], short_ok: bool) -> None:
    gpus = fake_gpus(constant(300.0))
    queued: list[float] = []
    meter = gpus.meter(synchronize=lambda: gpus.runtime.sleep(queued.pop()) if queued else None)
    meter.start()
    queued.append(1.0)
    with meter.phase("work", short_ok=short_ok):
        queued.append(2.0)
    queued.append(3.0)
    meter.stop()
    (phase,) = meter.phases()
    assert phase["seconds"] == pytest.approx(2.0, abs=0.01)
    assert phase["energy"]["gross_j"] == pytest.approx(600.0, rel=0.01)
    assert meter.summary()["window_s"] == pytest.approx(6.0, abs=0.3)

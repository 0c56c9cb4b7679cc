from __future__ import annotations

import sys
import types

import pytest

from gainwatt.energy import cuda_synchronize


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

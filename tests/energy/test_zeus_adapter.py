from __future__ import annotations

import sys
import types

import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.zeus_adapter import open_zeus


class Gpus:
    """An AMD manager as Zeus offers it: energy in mJ, power in mW."""

    energy_mj = 1000

    def __len__(self) -> int:
        return 1

    def get_name(self, index: int) -> str:
        return "AMD Instinct"

    def get_instant_power_usage(self, index: int) -> int:
        return 250_000

    def get_total_energy_consumption(self, index: int) -> int:
        Gpus.energy_mj += 5
        return Gpus.energy_mj

    def get_gpu_temperature(self, index: int) -> int:
        return 55


class NoGpus:
    def __call__(self) -> Gpus:
        raise RuntimeError("NVML and AMDSMI unavailable")


class Soc:
    def get_total_energy_consumption(self) -> object:
        return types.SimpleNamespace(cpu_total_mj=2000, dram_mj=300, gpu_mj=4000)


def install(monkeypatch: pytest.MonkeyPatch, gpus: object, soc: object) -> None:
    zeus, device, soc_module = (types.ModuleType(name) for name in ("zeus", "zeus.device", "zeus.device.soc"))
    device.get_gpus = gpus  # type: ignore[attr-defined]
    soc_module.get_soc = soc  # type: ignore[attr-defined]
    for name, module in (("zeus", zeus), ("zeus.device", device), ("zeus.device.soc", soc_module)):
        monkeypatch.setitem(sys.modules, name, module)


def test_amd_board(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpus, None)
    (device,), reason = open_zeus()
    assert reason is None
    assert (device.info.label, device.info.boundary, device.info.source) == ("gpu:0", "gpu_board", "zeus")
    assert device.power_w() == 250.0
    assert device.counter_j() == pytest.approx(Gpus.energy_mj / 1e3)
    assert device.slow().temperature_c == 55.0


def test_system_on_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, NoGpus(), Soc)
    devices, reason = open_zeus()
    assert reason is None
    found = {device.info.boundary: device.counter_j() for device in devices}
    assert found == {"gpu_board": 4.0, "cpu_package": 2.0, "dram": 0.3}


def test_blocks_that_the_chip_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jetson:
        def get_total_energy_consumption(self) -> object:
            return types.SimpleNamespace(cpu_energy_mj=1.0, gpu_energy_mj=None, total_energy_mj=9.0)

    install(monkeypatch, NoGpus(), Jetson)
    devices, _ = open_zeus()
    assert [device.info.boundary for device in devices] == ["cpu_package"]


def test_nothing_found_and_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, NoGpus(), NoGpus())
    devices, reason = open_zeus()
    assert devices == []
    assert "AMDSMI unavailable" in (reason or "")
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    assert "cannot be used" in (open_zeus()[1] or "")


def test_meter_takes_zeus_when_there_is_no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpus, None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = EnergyMeter(sample_hz=50.0, idle_s=0.0, rapl=False, environ={})
    meter.start()
    meter.stop()
    block = meter.summary()
    assert block["boundary"] == ["gpu_board"]
    assert block["devices"][0]["source"] == "zeus"

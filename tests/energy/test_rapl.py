from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.energy import EnergyMeter, rapl
from gainwatt.energy.device import DeviceError
from gainwatt.energy.rapl import Unwrapper, open_rapl

from .conftest import FakeGpus

RANGE = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy: str = "1000000", limit: int = RANGE) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n", encoding="ascii")
    (path / "energy_uj").write_text(energy + "\n", encoding="ascii")
    (path / "max_energy_range_uj").write_text(f"{limit}\n", encoding="ascii")
    return path


@given(
    offset=st.integers(0, RANGE - 1),
    steps=st.lists(st.integers(0, RANGE - 1), min_size=1, max_size=20),
)
def test_wrap_at_every_offset(offset: int, steps: list[int]) -> None:
    reader = Unwrapper(RANGE)
    reader.feed(offset)
    true = offset
    for step in steps:
        true += step
        assert reader.feed(true % RANGE) == true - offset


def test_every_offset_of_a_small_counter() -> None:
    for offset in range(97):
        reader = Unwrapper(97)
        reader.feed(offset)
        totals = [reader.feed((offset + 13 * step) % 97) for step in range(1, 40)]
        assert totals == [13 * step for step in range(1, 40)]


def test_packages_and_dram_once(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:0", "core")
    zone(tmp_path, "intel-rapl:0:1", "dram")
    zone(tmp_path, "intel-rapl:1", "package-1")
    zone(tmp_path, "intel-rapl:2", "psys")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    devices, reasons = open_rapl(tmp_path)
    assert [device.info.label for device in devices] == ["cpu:0", "cpu:1", "dram:0"]
    assert reasons == {}


def test_reading_follows_the_file_through_a_wrap(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", energy=str(RANGE - 1_000_000))
    (device,), _ = open_rapl(tmp_path)
    assert device.counter_j() == 0.0
    (path / "energy_uj").write_text("2000000", encoding="ascii")
    assert device.counter_j() == pytest.approx(3.0)
    with pytest.raises(DeviceError, match="no reading of power"):
        device.power_w()
    device.close()
    device.close()


def test_no_powercap_tree(tmp_path: Path) -> None:
    devices, reasons = open_rapl(tmp_path / "absent")
    assert devices == []
    assert set(reasons) == {"cpu_package", "dram"}


def test_unreadable_energy_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(rapl.os, "open", refuse)
    devices, reasons = open_rapl(tmp_path)
    assert devices == []
    assert "root only" in reasons["cpu_package"]
    assert "chmod o+r" in reasons["cpu_package"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_zone_whose_wrap_cannot_be_undone_is_refused(tmp_path: Path, limit: int) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", limit=limit)
    devices, reasons = open_rapl(tmp_path)
    assert devices == []
    assert "wrap could not be undone" in reasons["cpu_package"]


@pytest.mark.parametrize("content", ["", "garbage", "12 34"])
def test_a_zone_with_nonsense_is_refused(tmp_path: Path, content: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", energy=content)
    devices, reasons = open_rapl(tmp_path)
    assert devices == []
    assert "could not be read" in reasons["cpu_package"]


def test_one_bad_package_takes_its_sisters_along(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:1", "package-1", energy="garbage")
    devices, reasons = open_rapl(tmp_path)
    assert devices == []
    assert "intel-rapl:1" in reasons["cpu_package"]


def test_meter_counts_package_and_dram_across_a_wrap(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", energy=str(RANGE - 5_000_000))
    dram = zone(tmp_path, "intel-rapl:0:0", "dram", energy="0")
    meter = EnergyMeter(idle_s=0.0, environ={"CUDA_VISIBLE_DEVICES": ""}, rapl_root=tmp_path)
    meter.start()
    (package / "energy_uj").write_text("15000000", encoding="ascii")
    (dram / "energy_uj").write_text("3000000", encoding="ascii")
    meter.stop()
    block = meter.summary()
    assert block["boundary"] == ["cpu_package", "dram"]
    assert block["by_boundary"]["cpu_package"]["gross_j"] == pytest.approx(20.0)
    assert block["gross_j"] == pytest.approx(23.0)
    assert block["net_j"] is None
    assert "idle_s is 0" in block["null_reasons"]["net_j"]


def test_a_short_phase_lies_between_close_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_gpus: Callable[..., FakeGpus]
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    gpus = fake_gpus([(0.0, 100.0), (500.0, 100.0)])
    # A package at 20 W, from second 10 on at 80 W.
    monkeypatch.setattr(rapl.os, "pread", lambda *_: str(int(1e6 * _package_j(gpus.runtime.now()))).encode())
    meter = gpus.meter(rapl=True, rapl_root=tmp_path, idle_s=2.0)
    meter.start()
    gpus.runtime.sleep(10.0 - gpus.runtime.now())
    with meter.phase("busy"):
        gpus.runtime.sleep(3.0)
    gpus.runtime.sleep(20.0)
    meter.stop()
    energy = meter.phases()[0]["energy"]
    assert [device["device"] for device in energy["devices"]] == ["gpu:0", "cpu:0"]
    assert energy["devices"][1]["gross_j"] == pytest.approx(240.0, rel=0.07)
    assert "coarse" not in energy["flags"]
    package = meter.summary()["devices"][1]
    assert package["idle_before_w"] == pytest.approx(20.0, rel=0.01)
    start, end = meter.start_s or 0.0, meter.end_s or 0.0
    assert package["gross_j"] == pytest.approx(_package_j(end) - _package_j(start), rel=0.001)
    assert meter.summary()["boundary"] == ["gpu_board", "cpu_package"]


def _package_j(now: float) -> float:
    return 20.0 * now + 60.0 * max(0.0, now - 10.0)


def test_a_zone_that_vanishes_leaves_the_work_done_and_the_energy_null(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0")
    meter = EnergyMeter(idle_s=0.0, environ={"CUDA_VISIBLE_DEVICES": ""}, rapl_root=tmp_path)
    meter.start()
    with meter.phase("work"):
        (path / "energy_uj").write_text("gone", encoding="ascii")
    meter.stop()
    block = meter.summary()
    assert block["gross_j"] is None
    assert "could not be read" in block["null_reasons"]["gross_j"]


@pytest.mark.parametrize("stands_s", [0.0, 15.0])
def test_a_zone_that_stands_has_no_energy_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_gpus: Callable[..., FakeGpus], stands_s: float
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    gpus = fake_gpus([(0.0, 100.0), (500.0, 100.0)])
    monkeypatch.setattr(rapl.os, "pread", lambda *_: str(int(2e7 * min(gpus.runtime.now(), stands_s))).encode())
    meter = gpus.meter(rapl=True, rapl_root=tmp_path)
    meter.start()
    gpus.runtime.sleep(18.0)
    with meter.phase("late"):
        gpus.runtime.sleep(0.2)
    meter.stop()
    board, package = meter.summary()["devices"]
    assert board["gross_j"] == pytest.approx(1820.0, rel=0.02)
    assert package["gross_j"] is None
    assert "counter_stuck" in package["flags"]
    assert "stood still" in package["null_reasons"]["gross_j"]
    assert meter.summary()["gross_j"] is None
    assert meter.summary()["by_boundary"]["gpu_board"]["gross_j"] == board["gross_j"]
    assert meter.phases()[0]["energy"]["devices"][1]["gross_j"] is None


def test_a_package_is_read_at_the_edge_and_not_behind_the_slow_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_gpus: Callable[..., FakeGpus]
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    board = [(0.0, 100.0), (500.0, 100.0)]
    gpus = fake_gpus(board, board)
    monkeypatch.setattr(rapl.os, "pread", lambda *_: str(int(2e7 * gpus.runtime.now())).encode())
    meter = gpus.meter(rapl=True, rapl_root=tmp_path)
    meter.start()
    with meter.phase("work", short_ok=False):
        gpus.runtime.sleep(1.0)
    meter.stop()
    (phase,) = meter.phases()
    # Each reading of a board's counter takes 2.5 ms, 0.05 J of the package.
    assert phase["energy"]["devices"][2]["gross_j"] == pytest.approx(20.0 * phase["seconds"], abs=0.01)

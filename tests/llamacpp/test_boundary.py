"""One boundary for every arm: sums that are whole or null with their reason."""

from __future__ import annotations

from types import SimpleNamespace

from gainwatt.llamacpp.boundary import Joules, absent_boundaries, measured, system

ALL = ("cpu_package", "dram", "gpu_board")
PARTS = {"cpu_package": Joules(60.0, 40.0), "dram": Joules(5.0, 3.0), "gpu_board": Joules(20.0, 1.0)}


def test_the_sum_is_over_every_device_whichever_did_the_work():
    found = system(PARTS, ALL, {}, {})
    assert (found.gross_j, found.net_j, found.reason) == (85.0, 44.0, None)


def test_a_boundary_that_cannot_be_read_leaves_the_sum_null():
    parts = {name: part for name, part in PARTS.items() if name != "cpu_package"}
    found = system(parts, ALL, {}, {"cpu_package": "root only"})
    assert (found.gross_j, found.net_j) == (None, None)
    assert "cpu_package: root only" in str(found.reason)
    assert system(parts, ("dram", "gpu_board"), {}, {}).gross_j == 25.0


def test_a_boundary_that_is_not_there_adds_nothing():
    parts = {name: part for name, part in PARTS.items() if name != "gpu_board"}
    assert system(parts, ALL, {"gpu_board": "no driver"}, {"gpu_board": "no driver"}).gross_j == 65.0
    assert system(parts, ALL, {}, {"gpu_board": "hidden"}).gross_j is None
    # A board that is metered counts, even where no driver was seen.
    assert system(PARTS, ALL, {"gpu_board": "no driver"}, {}).gross_j == 85.0
    assert system({}, ("gpu_board",), {"gpu_board": "no driver"}, {}).gross_j is None


def test_a_window_that_was_lost_is_null_with_its_own_reason():
    parts = PARTS | {"gpu_board": Joules(None, None, "NVML error 15", "NVML error 15")}
    found = system(parts, ALL, {}, {})
    assert found.gross_j is None
    assert "gpu_board: NVML error 15" in str(found.reason)
    parts = PARTS | {"dram": Joules(5.0, None, None, "below idle")}
    found = system(parts, ALL, {}, {})
    assert (found.gross_j, found.net_j, found.net_reason) == (85.0, None, "below idle")


def test_absent_means_no_driver_at_all(tmp_path):
    assert set(absent_boundaries([tmp_path / "none"])) == {"gpu_board"}
    (tmp_path / "nvidia0").touch()
    assert absent_boundaries([tmp_path / "nvidia0"]) == {}


def test_joules_by_boundary_of_the_newest_phase(monkeypatch):
    devices = [
        {"gross_j": 10.0, "net_j": 1.0}, {"gross_j": 20.0, "net_j": 2.0},
        {"gross_j": 5.0, "net_j": None, "net_reason": "no idle"},
    ]  # fmt: skip
    entry = {"seconds": 5.0, "energy": {"devices": devices}}
    monkeypatch.setattr("gainwatt.llamacpp.boundary.newest_entry", lambda report, path: entry)
    tracks = [SimpleNamespace(device=SimpleNamespace(info=SimpleNamespace(boundary=b)))
              for b in ("gpu_board", "gpu_board", "cpu_package")]  # fmt: skip
    found, parts = measured(SimpleNamespace(report=lambda: None, tracks=tracks), "window")  # type: ignore[arg-type]
    assert found is entry
    assert parts["gpu_board"] == Joules(30.0, 3.0)
    assert parts["cpu_package"] == Joules(5.0, None, None, "no idle")

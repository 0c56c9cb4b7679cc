"""Marks of a device that come from what the machine says around the work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from gainwatt.energy import meter as meter_module
from gainwatt.energy.processes import classify

from .conftest import FakeGpus, constant, run


@pytest.mark.parametrize(("parent", "flags"), [(1, {"foreign_processes"}), (300, set())])
def test_another_program_on_the_board_is_marked(
    fake_gpus: Callable[..., FakeGpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: int, flags: set[str]
) -> None:
    for pid, parent_pid in {300: 1, 400: parent}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (name) S {parent_pid} 1 1", encoding="ascii")
    monkeypatch.setattr(meter_module, "classify", functools.partial(classify, own_pid=300, proc=tmp_path))
    gpus = fake_gpus(constant(300.0), statements=[["process 400 1048576"]])
    block = run(gpus, 6.0).summary()
    found = {"foreign_processes", "unknown_processes"} & set(block["devices"][0]["flags"])
    assert found == flags
    assert {entry["flag"] for entry in block["flags"] if entry["device"] == "gpu:0"} >= flags
    assert block["processes"]["gpu:0"][0]["owner"] == ("foreign" if flags else "ours")


@pytest.mark.parametrize(
    ("bits", "mark"), [(0x8, "throttled"), (0x40, "throttled"), (0x80, "throttled"), (0x4, "power_capped"), (0x1, None)]
)
def test_the_phase_in_which_clocks_were_held_down_is_marked(
    fake_gpus: Callable[..., FakeGpus], bits: int, mark: str | None
) -> None:
    gpus = fake_gpus(constant(300.0), statements=[[f"throttle 10 20 {bits}"]])
    meter = gpus.meter()
    meter.start()
    for name in ("before", "inside"):
        with meter.phase(name):
            gpus.runtime.sleep(8.0)
    meter.stop()
    before, inside = ({"throttled", "power_capped"} & set(phase["energy"]["flags"]) for phase in meter.phases())
    assert before == set()
    assert inside == ({mark} if mark else set())

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gainwatt.energy.processes import classify, may_be_foreign

from .conftest import FakeGpus, constant


def tree(root: Path, parents: dict[int, int]) -> Path:
    for pid, parent in parents.items():
        (root / str(pid)).mkdir()
        (root / str(pid) / "stat").write_text(f"{pid} (a (strange) name) S {parent} 1 1", encoding="ascii")
    return root


def owners(root: Path, pids: list[int], own: int = 30) -> list[str]:
    return [entry["owner"] for entry in classify([{"pid": pid} for pid in pids], own, root)]


def test_descendants_and_ancestors_are_ours(tmp_path: Path) -> None:
    proc = tree(tmp_path, {10: 1, 20: 10, 30: 20, 40: 30, 50: 40, 60: 10})
    assert owners(proc, [30, 40, 50, 20]) == ["ours"] * 4
    assert owners(proc, [60]) == ["foreign"]


def test_all_that_the_jobs_launcher_has_started_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = tree(tmp_path, {10: 1, 20: 10, 30: 20, 60: 20, 70: 10})
    monkeypatch.setenv("GAINWATT_LAUNCHED_BY", "20")
    assert owners(proc, [60, 70]) == ["ours", "foreign"]
    monkeypatch.setenv("GAINWATT_LAUNCHED_BY", "70")  # not one of this process's ancestors: somebody else's
    assert owners(proc, [60, 70]) == ["foreign", "foreign"]


def test_pids_of_another_namespace_are_unknown(tmp_path: Path) -> None:
    assert owners(tree(tmp_path, {30: 1}), [999]) == ["unknown"]


def test_a_damaged_entry_and_a_loop_end(tmp_path: Path) -> None:
    proc = tree(tmp_path, {30: 1, 70: 80, 80: 70})
    (proc / "90").mkdir()
    (proc / "90" / "stat").write_text("90 nonsense", encoding="ascii")
    assert owners(proc, [70, 90]) == ["foreign", "unknown"]


def entry(pid: int, seen: str, owner: str = "unknown") -> dict[str, object]:
    return {"pid": pid, "seen": seen, "owner": owner}


def test_one_unresolvable_process_after_the_work_is_ours() -> None:
    assert not may_be_foreign([entry(5, "after")], own_context=False)
    assert may_be_foreign([entry(5, "before")], own_context=False)
    assert not may_be_foreign([entry(5, "before"), entry(5, "after")], own_context=True)
    assert may_be_foreign([entry(5, "after"), entry(6, "after")], own_context=False)
    assert may_be_foreign([entry(5, "before"), entry(6, "after")], own_context=True)
    assert not may_be_foreign([entry(5, "before", "ours"), entry(6, "after", "foreign")], own_context=False)


def test_meter_marks_foreign_and_unknown_processes(fake_gpus: Callable[..., FakeGpus]) -> None:
    gpus = fake_gpus(
        constant(100.0), constant(100.0), statements=[[f"process {os.getpid()} 1048576"], ["process 4194305 1"]]
    )
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(2.0)
    meter.stop()
    first, second = meter.summary()["devices"]
    assert not {"foreign_processes", "unknown_processes"} & set(first["flags"])
    assert "unknown_processes" in second["flags"]
    listed = meter.summary()["processes"]["gpu:0"]
    assert [(entry["seen"], entry["owner"]) for entry in listed] == [("before", "ours"), ("after", "ours")]

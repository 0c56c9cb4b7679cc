"""benchmarks/energy/agreement.py with loads that need no GPU: every part runs, and the report holds its figures."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gainwatt.energy import EnergyMeter

from .conftest import FakeGpus, constant

# One kind of driver is enough here: what is tested are the figures, with a real clock.
pytestmark = pytest.mark.parametrize("fake_gpus", ["record"], indirect=True)

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "energy"


class Load:
    def run(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.3))

    def count(self, seconds: float) -> int:
        time.sleep(0.02)
        return 1

    def duty(self, batches: int) -> None:
        time.sleep(0.3)


class Loop:
    def timed(self, seconds: float) -> list[tuple[float, float]]:
        begin = time.monotonic()
        time.sleep(0.1)
        return [(begin + 0.01 * step, 0.01) for step in range(10)]


class Monitor:
    """Stands for ZeusMonitor."""

    index = 0

    def __init__(self, **_: object) -> None:
        self.begin = 0.0
        self.gpus = SimpleNamespace(gpus=[SimpleNamespace(gpu_index=self.index)])

    def begin_window(self, name: str, sync_execution: bool) -> None:
        self.begin = time.monotonic()

    def end_window(self, name: str, sync_execution: bool) -> object:
        return type("Measurement", (), {"total_energy": 300.0 * (time.monotonic() - self.begin)})


@pytest.fixture
def agreement(monkeypatch: pytest.MonkeyPatch, fake_gpus: Callable[..., FakeGpus]) -> ModuleType:
    fake_gpus(constant(300.0), head=["clock real"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("workloads", "parts", "agreement"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("agreement")
    parts, workloads = sys.modules["parts"], sys.modules["workloads"]
    monkeypatch.setattr(workloads, "MatrixLoad", Load)
    monkeypatch.setattr(workloads, "machine", lambda: {"gpu": "Fake", "driver": "1", "torch": "none"})
    monkeypatch.setattr(parts, "DecodeLoop", Loop)
    monkeypatch.setattr(parts, "EnergyMeter", lambda **options: EnergyMeter(**{**options, "idle_s": 0.0}))
    monkeypatch.setitem(sys.modules, "zeus", type(sys)("zeus"))
    monitor = type(sys)("zeus.monitor")
    monitor.ZeusMonitor = Monitor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zeus.monitor", monitor)
    return module


def test_all_parts(agreement: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(tmp_path), "--window-s", "0.3", "--zeus-s", "0.3", "--zeus-rounds", "1"]
    arguments += ["--overhead-s", "0.1", "--pairs", "2", "--share-s", "0.2", "--repeat-s", "0.3", "--repeats", "2"]
    assert agreement.main(arguments) == 0
    record = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))
    assert [row["window"] for row in record["windows"]["rows"]] == ["idle", "busy"]
    assert [row["window"] for row in record["zeus"]["rows"]] == ["idle", "busy"]
    assert all(row["ours_j"] > 0 and row["apart"] is not None for row in record["zeus"]["rows"])
    assert [row["n"] for row in record["overhead"]["rows"]] == [2, 2]
    assert [row["run"] for row in record["repeat"]["rows"]] == [0, 1]
    text = (tmp_path / "agreement.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "CV of the joules" in text
    assert (tmp_path / "windows.parquet").exists()
    assert (tmp_path / "repeat.parquet").exists()


def test_parts_are_skipped_and_failures_kept_apart(
    agreement: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(sys.modules["parts"], "overhead", broken)
    arguments = ["--out", str(tmp_path), "--skip", "windows", "repeat"]
    assert agreement.main(arguments) == 0
    record = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))
    assert record["windows"]["reason"] == "skipped by --skip"
    assert "package zeus cannot be imported" in record["zeus"]["reason"]
    assert record["overhead"]["reason"] == "failed: RuntimeError: CUDA out of memory"


def test_joules_of_two_boards_are_not_compared(
    agreement: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "index", 1)
    assert agreement.main(["--out", str(tmp_path), "--skip", "windows", "overhead", "repeat"]) == 0
    record = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))
    assert "Zeus reads gpu:1, and this meter gpu:0" in record["zeus"]["reason"]
    assert "rows" not in record["zeus"]


def test_steps_that_meet_a_round(agreement: ModuleType) -> None:
    found = sys.modules["parts"].during_rounds([(0.1 * n, 0.15 if n == 3 else 0.1) for n in range(10)], [-5.0, 0.32])
    assert (found["steps"], found["rounds"]) == (1, 2)
    assert found["lost_share"] == pytest.approx(0.05 / 1.05)
    assert sys.modules["parts"].during_rounds([(0.0, 1.0)], [])["lost_share"] is None


def test_no_run_begins_behind_the_budget(agreement: ModuleType, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--skip", "windows", "zeus", "overhead", "--budget-s", "0"]
    assert agreement.main(arguments) == 0
    record = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))
    assert record["repeat"]["rows"] == []
    assert "too few" in record["repeat"]["verdict"][0]

"""The command `scripts/check_energy.py` and the verdict it prints."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gainwatt.energy.check import RECORD, call_costs, run_windows, windows_table
from gainwatt.energy.load import cpu_load, gpu_load
from gainwatt.energy.nvml import open_nvml
from gainwatt.energy.verdict import findings, headline

from .conftest import UUID_A, FakeGpus, VirtualLoop, constant

Fake = Callable[..., FakeGpus]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_energy.py"


@pytest.fixture(scope="module")
def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_energy_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_help_is_a_manual(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("Examples:", "--busy-s", "--figure", "verdict", "default: 10"):
        assert word in text


def test_without_any_meter_it_ends_well_and_says_why(
    command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    record = tmp_path / "check.json"
    arguments = ["--no-rapl", "--record", str(record), "--figure", str(tmp_path / "x.svg")]
    assert command.main(arguments) == 0
    assert (
        "verdict: no meter, because GPU board: the package nvidia-ml-py cannot be imported" in capsys.readouterr().out
    )
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["kind"] == "gainwatt-energy-check"
    assert written["stage"] == "check_energy"
    assert written["status"] == "unavailable"
    assert written["energy"]["gross_j"] is None
    assert not (tmp_path / "x.svg").exists()
    assert command.main(["--no-rapl", "--require-meter"]) == 4
    assert "what to do" in capsys.readouterr().err


def test_with_a_board_by_command_line(fake_library: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    lines = [
        "clock real",
        f"device {UUID_A} Fake H200",
        "persistence 0",
        "power_tick 0.1",
        "point 0 150",
        "point 99 150",
    ]
    script.write_text("\n".join(lines) + "\n", encoding="ascii")
    record, trace, figure = (tmp_path / name for name in ("check.json", "trace.parquet", "trace.svg"))
    arguments = [
        "--idle-s", "0.6", "--busy-s", "0.6", "--idle-power-s", "0.3", "--cost-s", "0.3", "--busy", "cpu", "--no-rapl",
        "--record", str(record), "--trace", str(trace), "--figure", str(figure),
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {
        "LD_LIBRARY_PATH": str(fake_library.parent),
        "GAINWATT_FAKE_NVML": str(script),
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: energy can be measured: GPU board by counter" in done.stdout
    assert "sudo nvidia-smi -pm 1" in done.stdout
    written = json.loads(record.read_text(encoding="utf-8"))
    assert (written["kind"], written["schema_version"], written["status"]) == ("gainwatt-energy-check", 1, "ok")
    assert set(written["sampler_cpu_share"]) == {"idle", "busy"}
    assert written["energy"]["devices"][0]["power_source"] == "record"
    assert {row["window"] for row in written["windows"]} == {"idle", "busy"}
    assert all(cost["median_us"] > 0 for cost in written["call_costs"])
    assert trace.exists()
    assert figure.exists()


def test_gpu_load_that_is_demanded_and_absent_is_an_error(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu_load()[0] is None
    assert command.main(["--busy", "gpu", "--cost-s", "0.01"]) == 4
    assert "torch cannot be imported" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--sample-hz=0", "--sample-hz=inf", "--sample-hz=nan", "--idle-s=-1", "--busy-s=nan", "--cost-s=0", "--busy-s=x"],
)
def test_a_number_that_is_none_is_refused_at_once(
    command: ModuleType, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([option])
    assert ended.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err


def test_cpu_load_runs() -> None:
    load, name = cpu_load()
    load(0.01)
    assert "CPU" in name


def test_costs_and_periods(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 100.0), (1000.0, 600.0)], statements=[["power_tick 0.05"]])
    (device,) = open_nvml({}).devices
    costs = {cost.reading: cost for cost in call_costs(device, gpus.runtime, 1.0)}
    assert costs["energy counter"].median_us == pytest.approx(2500.0, rel=0.01)
    assert costs["energy counter"].period_s == pytest.approx(0.1, abs=0.005)
    assert costs["power"].period_s == pytest.approx(0.05, abs=0.002)


def test_however_short_the_time_each_reading_is_timed_once(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(100.0))
    (device,) = open_nvml({}).devices
    assert all(cost.calls == 1 for cost in call_costs(device, gpus.runtime, 0.0) if cost.reason is None)


def test_costs_of_readings_that_are_missing_or_fail(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(100.0), statements=[["unsupported counter", "fail power 5 0 15"]])
    (device,) = open_nvml({}).devices
    costs = {cost.reading: cost for cost in call_costs(device, gpus.runtime, 1.0)}
    power, counter = costs["power"], costs["energy counter"]
    assert (costs[RECORD].median_us is None) == (not gpus.record)
    assert ("NOT_SUPPORTED" in (costs[RECORD].reason or "")) == (not gpus.record)
    assert "GPU_IS_LOST" in (power.reason or "")
    assert "NOT_SUPPORTED" in (counter.reason or "")
    assert power.median_us is counter.median_us is None


def checked(gpus: FakeGpus, **options: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    meter = gpus.meter(idle_s=1.0, **options)
    run_windows(meter, 6.0, 6.0, lambda: gpus.runtime.sleep)
    return meter.summary(), windows_table(meter)


def test_windows_table_compares_counter_and_integral(fake_gpus: Fake) -> None:
    _, rows = checked(fake_gpus([(0.0, 120.0), (8.0, 120.0), (8.1, 600.0), (50.0, 600.0)]))
    assert [row["window"] for row in rows] == ["idle", "busy"]
    assert rows[1]["mean_w"] == pytest.approx(600.0, rel=0.01)
    assert abs(rows[1]["relative_difference"]) < 0.01


@pytest.mark.parametrize(
    ("statement", "word", "fix"),
    [
        ("mig MIG-1", "MIG is on", "-mig 0"),
        ("limit 0 300", "not the board's default", "-pl"),
        ("throttle 2 9 64", "clocks were held down", "PERFORMANCE"),
        ("unsupported counter", "no energy counter", "integral"),
        ("counter_stick 0.1", "stood still", "reload"),
        ("unsupported instant", "no instant power", "update the NVIDIA driver"),
        ("process 4194305 1", "pid namespace", "host"),
    ],
)
def test_findings_name_the_trouble_and_the_remedy(fake_gpus: Fake, statement: str, word: str, fix: str) -> None:
    gpus = fake_gpus(constant(200.0), statements=[[statement]])
    summary, rows = checked(gpus)
    if "instant" in statement and gpus.record:
        assert not [item for item in findings(summary, [], rows, {}) if word in item.what]  # the record needs none
        return
    found = [item for item in findings(summary, [], rows, {}) if word in item.what]
    assert found
    assert fix in found[0].fix


def test_sampler_findings(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    gpus.runtime.starved = [(2.0, 7.0)]
    summary, rows = checked(gpus)
    summary["sampling"]["sampler_cpu_share"] = 0.01
    texts = [item.what for item in findings(summary, [], rows, {"gpu:0": False}, {"idle": 0.0005, "busy": 0.02})]
    assert any("the sampler uses 1.00 % of a core" in text for text in texts)
    assert any("while busy the sampler uses 2.00 % of a core" in text for text in texts)
    assert not any("while idle" in text for text in texts)
    assert any("got no time" in text for text in texts)
    assert any("samples a second" in text for text in texts) == (not gpus.record)
    assert any("persistence mode is off" in text for text in texts)


def test_share_of_a_core_in_each_window(fake_gpus: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, cost_s = fake_gpus(constant(200.0)), 0.002
    begin = gpus.runtime.start_loop

    def costly(poll: Callable[[], None], period_s: float) -> VirtualLoop:
        def round_() -> None:
            poll()
            if gpus.runtime.loop is not None:
                gpus.runtime.loop.cpu_s += cost_s

        return begin(round_, period_s)

    monkeypatch.setattr(gpus.runtime, "start_loop", costly)
    meter = gpus.meter(idle_s=1.0)
    shares = run_windows(meter, 12.0, 12.0, lambda: gpus.runtime.sleep)
    assert meter.sampler is not None
    expected = cost_s / meter.sampler.period_s
    assert shares == {"idle": pytest.approx(expected, rel=0.02), "busy": pytest.approx(expected, rel=0.02)}
    assert meter.summary()["sampling"]["sampler_cpu_share"] == pytest.approx(expected, rel=0.1)


def test_headline_of_a_lost_board(fake_gpus: Fake) -> None:
    statements = ["fail_at all 6 0 15"]
    summary, _ = checked(fake_gpus(constant(200.0), statements=[statements]))
    assert headline(summary).startswith("energy is incomplete: gpu:0")


def test_a_mark_of_the_whole_time_is_said_once(fake_gpus: Fake) -> None:
    summary, rows = checked(fake_gpus(constant(200.0), statements=[["counter_stick 0"]]))
    assert any("counter_stuck" in row["flags"] for row in rows)
    texts = [item.what for item in findings(summary, [], rows, {})]
    assert sum("stood still" in text for text in texts) == 1

"""Opening boards through the real bindings: selection, MIG, broken drivers, error codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.device import DeviceError
from gainwatt.energy.nvml import device_error, open_nvml
from gainwatt.energy.nvml_errors import NVML_CODES, describe

from .conftest import UUID_A, UUID_B, FakeGpus, constant

Fake = Callable[..., FakeGpus]
MIG = "MIG-cccccccc-0000-1111-2222-333333333333"
TWO = (constant(100.0), constant(200.0))


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        (None, ["gpu:0", "gpu:1"]),
        ("1,0", ["gpu:1", "gpu:0"]),
        (UUID_B, ["gpu:1"]),
        (UUID_A[:9], ["gpu:0"]),
        (MIG, ["gpu:1"]),
        (f"MIG-{UUID_A}/1/0", ["gpu:0"]),
        ("0,5", ["gpu:0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices(fake_gpus: Fake, value: str | None, labels: list[str]) -> None:
    fake_gpus(*TWO, statements=[[], [f"mig {MIG}"]])
    session = open_nvml({} if value is None else {"CUDA_VISIBLE_DEVICES": value})
    assert [device.info.label for device in session.devices] == labels
    assert session.hidden == (not labels)
    session.close()


def test_hidden_gpus_are_not_measured_and_the_reason_says_so(fake_gpus: Fake) -> None:
    gpus = fake_gpus(*TWO)
    meter = gpus.meter(environ={"CUDA_VISIBLE_DEVICES": "NoDevFiles"})
    meter.start()
    meter.stop()
    assert "Slurm gave this job no GPU" in meter.summary()["null_reasons"]["gpu_board"]


def test_mig_is_marked_and_the_instance_named(fake_gpus: Fake) -> None:
    gpus = fake_gpus(*TWO, statements=[[], [f"mig {MIG}"]])
    meter = gpus.meter(environ={"CUDA_VISIBLE_DEVICES": MIG})
    meter.start()
    gpus.runtime.sleep(3.0)
    meter.stop()
    (device,) = meter.summary()["devices"]
    assert device["mig_ids"] == [MIG]
    assert "mig" in device["flags"]
    assert device["gross_j"] == pytest.approx(600.0, rel=0.01)


def test_cut_selection_and_unequal_boards_are_marked(fake_gpus: Fake) -> None:
    gpus = fake_gpus(*TWO, names=("Fake T4", "Fake H200"))
    meter = gpus.meter(environ={"CUDA_VISIBLE_DEVICES": "0,7"})
    meter.start()
    meter.stop()
    flags = {entry["flag"] for entry in meter.summary()["flags"]}
    assert {"selection_cut", "device_order"} <= flags
    assert 'ends at "7"' in meter.summary()["notes"][0]


@pytest.mark.parametrize("code", [4, 9, 12, 18, 999, 4711])
def test_a_broken_driver_is_a_reason(fake_gpus: Fake, code: int) -> None:
    gpus = fake_gpus(constant(100.0), head=[f"init_error {code}"])
    meter = gpus.meter()
    meter.start()
    with meter.phase("work"):
        pass
    meter.stop()
    assert f"NVML error {code} ({describe(code).name})" in meter.summary()["null_reasons"]["gpu_board"]


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    session = open_nvml({})
    assert session.devices == []
    assert "nvidia-ml-py" in (session.reason or "")
    assert session.hint == "pip install nvidia-ml-py"


def test_every_code_of_the_bindings_is_in_the_table() -> None:
    codes = {value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    assert codes <= set(NVML_CODES)
    for name, value in vars(pynvml).items():
        if name.startswith("NVML_ERROR_"):
            assert NVML_CODES[value].name == name.removeprefix("NVML_ERROR_")


def test_errors_keep_code_and_finality() -> None:
    lost = device_error(pynvml.NVMLError(15), "call")
    assert (lost.code, lost.fatal) == (15, True)
    passing = device_error(pynvml.NVMLError(10), "call")
    assert (passing.code, passing.fatal) == (10, False)
    other = device_error(ValueError("odd"), "call")
    assert (other.code, str(other)) == (None, "call failed: ValueError: odd")


def test_readings_of_a_board(fake_gpus: Fake) -> None:
    fake_gpus(constant(123.0), statements=[["process 4242 1048576", "counter_offset 77", "persistence 0"]])
    (device,) = open_nvml({}).devices
    assert device.power_w() == pytest.approx(123.0)
    assert device.counter_j() >= 77.0
    slow = device.slow()
    assert (slow.temperature_c, slow.sm_clock_mhz, slow.memory_clock_mhz) == (40, 1500, 2600)
    assert slow.memory_used_mib == pytest.approx(4096.0)
    state = device.state()
    assert state.persistence is False
    assert state.mig_enabled is False
    assert state.processes == ({"pid": 4242, "memory_used_mib": 1.0},)


def test_a_power_reading_that_fails_names_the_call(fake_gpus: Fake) -> None:
    fake_gpus(constant(100.0), statements=[["fail power 3 3 10"]])
    (device,) = open_nvml({}).devices
    device.power_w()
    with pytest.raises(DeviceError, match=r"POWER_INSTANT.* NVML error 10 \(TIMEOUT\)"):
        device.power_w()
    assert device.power_w() == pytest.approx(100.0)


def test_real_loader_real_clock_real_thread(fake_library: Path, tmp_path: Path) -> None:
    """Another process finds the library by its name, as with a driver, and samples with the real thread."""
    script = tmp_path / "script.txt"
    lines = ["clock real", f"device {UUID_A} Fake H200", "counter_tick 0.02", "point 0 200", "point 100 200"]
    script.write_text("\n".join(lines) + "\n", encoding="ascii")
    code = (
        "import json, time\n"
        "from gainwatt.energy import EnergyMeter\n"
        "meter = EnergyMeter(sample_hz=50.0, idle_s=0.2, rapl=False)\n"
        "meter.start()\n"
        "with meter.phase('work', short_ok=False): time.sleep(0.6)\n"
        "meter.stop()\n"
        "print(json.dumps([meter.summary(), meter.phases()]))\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    env = {
        **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
        "LD_LIBRARY_PATH": str(fake_library.parent),
        "GAINWATT_FAKE_NVML": str(script),
        "PYTHONPATH": str(source),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert '"method": "counter"' in done.stdout
    assert '"gross_j": null' not in done.stdout


def test_importing_the_package_needs_the_standard_library_only() -> None:
    code = (
        "import sys, gainwatt.energy, gainwatt.energy.protocol\n"
        "heavy = {'numpy', 'pandas', 'torch', 'pyarrow', 'pynvml', 'zeus', 'pydantic', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(source)}, check=True)


def test_meter_never_raises_when_every_call_fails(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(100.0), statements=[["fail power 1 0 999", "fail counter 1 0 999", "fail slow 1 0 999"]])
    meter: EnergyMeter = gpus.meter(idle_s=1.0)
    meter.start()
    with meter.phase("work", short_ok=False):
        gpus.runtime.sleep(3.0)
    meter.stop()
    block = meter.summary()
    assert block["gross_j"] is None
    assert "error 999 (UNKNOWN)" in block["null_reasons"]["gross_j"]

"""GPUs of one's own on one machine (src/gainwatt/lease.py), by the command line and with make-believe GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from factories import ROOT
from gainwatt import lease
from gainwatt.errors import InputError, UnavailableError

SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"
HOLD = f"{SHOW}; import time; time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    """Call with options of the lease and a line of Python to start; ended with the test."""
    started = []

    def begin(gpus, line, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CUDA_"))}
        settings = {"PYTHONPATH": str(ROOT / "src"), "GAINWATT_LEASES": str(tmp_path / "leases"), **environment}
        command = [sys.executable, "-m", "gainwatt.lease", "--gpus", str(gpus), "--", sys.executable, "-c", line]
        started.append(
            subprocess.Popen(
                command, env={**inherited, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def test_two_jobs_get_different_gpus_and_a_third_waits_until_one_is_killed(start):
    first, second = (start(1, HOLD, GAINWATT_GPUS="0,1") for _ in range(2))
    given = {process: process.stdout.readline().strip() for process in (first, second)}
    assert sorted(given.values()) == ["0", "1"]
    third = start(1, SHOW, GAINWATT_GPUS="0,1")
    assert "waiting for 1 of 2 GPUs" in third.stderr.readline()
    assert third.poll() is None
    first.send_signal(signal.SIGKILL)
    assert third.communicate(timeout=30)[0].strip() == given[first]
    assert third.returncode == 0


def test_two_gpus_are_taken_together_or_not_at_all(start):
    one = start(1, HOLD, GAINWATT_GPUS="0,1")
    taken = one.stdout.readline().strip()
    both = start(2, SHOW, GAINWATT_GPUS="0,1")
    assert "waiting for 2 of 2 GPUs" in both.stderr.readline()
    other = start(1, SHOW, GAINWATT_GPUS="0,1")  # the one that waits for two keeps nothing back
    assert other.communicate(timeout=30)[0].strip() == ({"0", "1"} - {taken}).pop()
    one.kill()
    assert both.communicate(timeout=30)[0].strip() == "0,1"


def test_a_child_that_still_runs_keeps_the_gpu(start):
    line = "import os, time\npid = os.fork()\nif pid == 0: time.sleep(60)\nprint(pid, flush=True)\nos._exit(0)"
    parent = start(1, line, GAINWATT_GPUS="0")
    child = int(parent.stdout.readline())
    waiting = start(1, SHOW, GAINWATT_GPUS="0")
    assert "waiting for" in waiting.stderr.readline()
    os.kill(child, signal.SIGKILL)
    assert waiting.communicate(timeout=30)[0].strip() == "0"


@pytest.mark.parametrize(
    ("gpus", "command", "code", "said"),
    [
        ("3", [sys.executable, "-c", "pass"], 2, "asks for 3 GPUs and"),
        ("1", ["/no/such/program"], 127, "there is no program /no/such/program"),
        ("1", [], 127, "there is no program"),
        ("0", [sys.executable, "-c", "raise SystemExit(7)"], 7, ""),
    ],
)
def test_the_command_line_ends_with_the_reason(tmp_path, gpus, command, code, said):
    settings = {"PYTHONPATH": str(ROOT / "src"), "GAINWATT_LEASES": str(tmp_path), "GAINWATT_GPUS": "0,1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run(
        [sys.executable, "-m", "gainwatt.lease", "--gpus", gpus, "--", *command],
        env=inherited | settings, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def driver(monkeypatch, *uuids):
    monkeypatch.setattr(lease, "_driver_gpus", lambda: list(uuids))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, {"GPU-a": "0", "GPU-b": "1", "GPU-c": "2"}),
        ("2,0", {"GPU-c": "2", "GPU-a": "0"}),
        ("GPU-b", {"GPU-b": "GPU-b"}),
        ("MIG-1,MIG-2", {"MIG-1": "MIG-1", "MIG-2": "MIG-2"}),
    ],
)
def test_locks_follow_the_gpu_and_not_what_it_is_called(monkeypatch, visible, expected):
    driver(monkeypatch, "GPU-a", "GPU-b", "GPU-c")
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert lease.gpus_of_machine(environ) == expected


@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_no_gpu_may_be_used(monkeypatch, visible):
    driver(monkeypatch, "GPU-a")
    with pytest.raises(UnavailableError, match="offers this job no GPU: CUDA_VISIBLE_DEVICES") as caught:
        lease.gpus_of_machine({"CUDA_VISIBLE_DEVICES": visible})
    assert "gpus: 0" in caught.value.hint


def test_numbers_are_the_drivers_own(monkeypatch, tmp_path):
    driver(monkeypatch, "GPU-a", "GPU-b")
    chosen = lease.environment_of(1, {"GAINWATT_LEASES": str(tmp_path)})
    assert (chosen["CUDA_VISIBLE_DEVICES"], chosen["CUDA_DEVICE_ORDER"]) == ("0", "PCI_BUS_ID")
    assert lease.environment_of(0, {"A": "b"}) == {"A": "b"}


def test_a_job_of_slurm_keeps_what_slurm_gave_it(monkeypatch):
    driver(monkeypatch, "GPU-a", "GPU-b")
    given = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "1"}
    assert lease.environment_of(1, given) == given
    with pytest.raises(UnavailableError, match="asks for 2 GPUs and Slurm gave it 1"):
        lease.environment_of(2, given)


def test_a_machine_without_a_driver_is_named(monkeypatch):
    import pynvml

    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with pytest.raises(UnavailableError, match="has no working NVIDIA driver"):
        lease.gpus_of_machine({})


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        lease.lease_folder({"GAINWATT_LEASES": str(tmp_path / "file" / "leases")})


def test_a_lock_of_another_user_can_be_taken(tmp_path):
    (tmp_path / "0.lock").touch(mode=0o444)
    holder, other = lease.Lease(tmp_path), lease.Lease(tmp_path)
    assert holder.take(["0", "1"], 1) == ["0"]
    assert other.take(["0", "1"], 2) is None
    assert other.take(["0", "1"], 1) == ["1"]
    holder.give_back()
    assert lease.wait_for(lease.Lease(tmp_path), ["0"], 1) == ["0"]

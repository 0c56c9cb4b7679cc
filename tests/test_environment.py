"""The environment is read from the machine and says why something is missing."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from importlib import metadata

import pynvml
import pytest

from gainwatt import environment


def test_what_is_captured_is_json_and_this_machine():
    found = environment.capture()
    json.dumps(found, allow_nan=False)
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["memory_mib"] > 100
    assert found["git"]["commit"] is None or re.fullmatch(r"[0-9a-f]{40}", found["git"]["commit"])


def test_no_driver_is_a_reason(monkeypatch):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert "NVML" in environment.capture()["gpus"]


def test_no_git_is_null(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment.capture()["git"] == {"commit": None, "changed": None}


def test_a_gpu_that_answers_little(monkeypatch):
    def refuse(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlSystemGetDriverVersion": lambda: b"570.1",
        "nvmlDeviceGetCount": lambda: 1, "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetName": lambda h: "A40", "nvmlDeviceGetMemoryInfo": refuse,
        "nvmlDeviceGetPowerManagementLimit": lambda h: 300000,
        "nvmlDeviceGetMaxClockInfo": refuse,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    (gpu,) = environment.capture()["gpus"]
    assert gpu["driver"] == "570.1"
    assert gpu["power_limit_w"] == pytest.approx(300)
    assert gpu["memory_mib"] is None
    assert gpu["sm_clock_max_mhz"] is None


@pytest.fixture
def prefix(tmp_path):
    """An environment in .envs/tiny with two packages, and the file that it was made from."""
    made = tmp_path / ".envs" / "tiny"
    for name, version in (("One", "1.0"), ("two_parts", "2.0+cpu")):
        folder = made / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / "envs").mkdir()
    return made


def pinned(prefix, text):
    (prefix.parent.parent / "envs" / "tiny.txt").write_text(text)
    return environment.pins(prefix)


def test_an_environment_as_its_file_says(prefix):
    text = "# words\none==1.0  # why\ntwo-parts==2.0 ; python_version > '3'\n--extra-index-url x\n"
    assert pinned(prefix, text) == {"file": "envs/tiny.txt", "differing": {}}


def test_an_environment_of_an_older_file(prefix):
    found = pinned(prefix, "one==1.1\ntwo-parts==2.0\nthree==3.0\n")["differing"]
    assert found == {
        "one": {"installed": "1.0", "pinned": "1.1"},
        "three": {"installed": None, "pinned": "3.0"},
    }


def test_another_environment_has_no_file(tmp_path):
    assert environment.pins(tmp_path / "venv") == {"file": None, "differing": {}}
    assert set(environment.capture()["pins"]) == {"file", "differing"}

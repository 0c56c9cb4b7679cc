"""Roofs beside measured speeds: measured once for a machine, and null with the reason where there are none."""

from __future__ import annotations

import json
import subprocess

import pytest

from gainwatt.limits import DeviceLimits
from gainwatt.serving import roofs
from gainwatt.serving.roofs import Roofs, machine_limits, machine_name

LIMITS = DeviceLimits(4000.0, 700.0, 5.0, "scripted")


@pytest.fixture
def child(monkeypatch):
    """Counts the measurements; what the list holds is printed by each."""
    said = [json.dumps(LIMITS.as_dict())]
    calls = []

    def run(command, **_):
        calls.append(command[-1])
        return subprocess.CompletedProcess(command, 0, "noise\n" + said[0] + "\n", "")

    monkeypatch.setattr(roofs.subprocess, "run", run)
    return said, calls


def test_a_machine_is_measured_once_for_each_type(child, tmp_path):
    kept = tmp_path / "work" / "limits.json"
    assert machine_limits("bf16", kept, "A") == (LIMITS, None)
    assert machine_limits("bf16", kept, "A") == (LIMITS, None)
    assert machine_limits("bf16", kept, "B") == (LIMITS, None)
    assert machine_limits("fp16", kept, "B") == (LIMITS, None)
    assert child[1] == ["bf16", "bf16", "fp16"]


def test_a_measurement_that_fails_is_a_reason(child, tmp_path):
    child[0][0] = "not JSON"
    found, reason = machine_limits("bf16", tmp_path / "limits.json", "A")
    assert found is None
    assert "could not be measured" in reason
    assert not (tmp_path / "limits.json").exists()


def test_roofs_of_a_checkpoint(tiny_folder):
    found = Roofs.of(tiny_folder, LIMITS, "fp32", None).numbers(
        batch=8, prompt_tokens=100.0, new_tokens=20.0, weight_bytes=None, decode_tok_s=1000.0, prefill_tok_s=None
    )
    assert found.metrics["decode_roof_share"] == pytest.approx(1000 / found.metrics["decode_roof_tok_s"])
    assert found.metrics["decode_bound"] in ("launch", "bandwidth", "compute")
    assert found.metrics["prefill_roof_tok_s"] > 0
    assert found.metrics["prefill_roof_share"] is None
    assert found.reasons["prefill_roof_share"]


def test_without_a_shape_or_limits_each_number_says_why(tmp_path, tiny_folder):
    for made in (
        Roofs.of(tmp_path, LIMITS, "fp32", None),
        Roofs.of(tiny_folder, None, "fp32", "serve.limits is false"),
    ):
        found = made.numbers(
            batch=1, prompt_tokens=10.0, new_tokens=5.0, weight_bytes=1.0, decode_tok_s=1.0, prefill_tok_s=1.0
        )
        assert set(found.metrics.values()) == {None}
        assert all(found.reasons.values())


def test_a_roof_without_a_prompt_says_so(tiny_folder):
    found = Roofs.of(tiny_folder, LIMITS, "fp32", None).numbers(
        batch=1, prompt_tokens=0.0, new_tokens=5.0, weight_bytes=1.0, decode_tok_s=1.0, prefill_tok_s=1.0
    )
    assert set(found.reasons.values()) == {"the number of prompt tokens is not known"}


def test_limits_belong_to_boards_with_their_power_limit():
    gpu = {"name": "H200", "driver": "580", "power_limit_w": 700.0}
    capped = machine_name({"gpus": [{**gpu, "power_limit_w": 400.0}]})
    assert machine_name({"gpus": [gpu]}) != capped
    assert "threads 2" in machine_name({"gpus": "no NVML", "cpu": "a CPU", "threads": "2"})

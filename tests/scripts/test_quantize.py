"""scripts/quantize.py by its command line: the way it is called, what it refuses, what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file, save_file

from factories import ROOT, run_script, script_main, write_items
from gainwatt.checkpoint import read_manifest, write_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.quantization import checks


@pytest.fixture
def call(study_file, tiny_folder, tmp_path):
    """Options of the script for a scheme; `train` items are at hand, 4 are asked for."""

    def options(scheme, *, train=6, checkpoint=None):
        file = study_file(quantize={"reference": "fp32", "schemes": [scheme], "calibration_items": 4})
        data = write_items(tmp_path / "data", train=train) / "train.jsonl"
        found = ["--study", file, "--variant", "base", "--scheme", scheme, "--data", data]
        return [str(word) for word in [*found, "--checkpoint", checkpoint or tiny_folder / "manifest.json"]]

    return options


def record_of(tmp_path, scheme):
    return json.loads((tmp_path / "results/tiny/records/quantize" / f"base.{scheme}.json").read_text())


def test_from_the_command_line(call, tmp_path):
    done = run_script("quantize", *call("bnb-nf4"))
    assert done.returncode == 0, done.stderr
    assert "smoke bnb-nf4 with transformers: ok" in done.stderr
    record = record_of(tmp_path, "bnb-nf4")
    assert [phase["name"] for phase in record["phases"]] == ["check", "quantize", "hash", "errors", "smoke"]
    assert record["outputs"]["layers"]["file"] == "base.bnb-nf4.layers.parquet"
    made = read_manifest(tmp_path / "results/tiny/checkpoints/base/bnb-nf4/manifest.json")
    assert record["outputs"]["checkpoint"]["sha256"] == made.sha256


def nothing_was_made(tmp_path):
    return not list((tmp_path / "results").rglob("manifest.json")) and not list(
        (tmp_path / "results").rglob("*.parquet")
    )


def test_too_few_calibration_items(call, tmp_path):
    with pytest.raises(InputError, match=r"has 3 items, and quantize\.calibration_items asks for 4"):
        script_main("quantize")(call("awq-w4g128", train=3))
    assert nothing_was_made(tmp_path)


def test_a_scheme_without_calibration_needs_one_item(call, tmp_path):
    assert script_main("quantize")(call("bnb-int8-pure", train=1)) == 0
    assert "calibration" not in record_of(tmp_path, "bnb-int8-pure")["inputs"]


def test_an_already_quantized_checkpoint(call, tmp_path):
    assert script_main("quantize")(call("bnb-nf4")) == 0
    again = call("gptq-w4g128", checkpoint=tmp_path / "results/tiny/checkpoints/base/bnb-nf4/manifest.json")
    with pytest.raises(InputError, match="already quantized"):
        script_main("quantize")(again)


def test_a_tool_of_another_environment(call, tmp_path):
    done = run_script("quantize", *call("awq-w4g128-autoawq"))
    if "checkpoint" in done.stderr and done.returncode == 0:
        pytest.skip("AutoAWQ is installed here")
    assert done.returncode == UnavailableError.exit_code
    assert "make env NAME=autoawq" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_scheme_that_the_device_cannot_run_is_a_result(call, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_BNB_CPU_WIDTH", 96)  # as if the tiny model's widths were not multiples
    assert script_main("quantize")(call("bnb-fp4")) == 0
    record = record_of(tmp_path, "bnb-fp4")
    assert record["status"] == "unavailable"
    assert "on a CPU bitsandbytes restores bnb-fp4 weights wrongly" in record["reason"]
    with pytest.raises(UnavailableError, match="no bnb-fp4 checkpoint of base: unavailable"):
        read_manifest(tmp_path / "results/tiny/checkpoints/base/bnb-fp4/manifest.json")


@pytest.mark.faults
def test_killed_in_the_middle_and_run_again(call, tmp_path):
    """kill -9 while the tool writes into its temporary folder; the same command then ends well and leaves no rest."""
    options = call("awq-w4g128")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/quantize.py"), *options], env=environment, stderr=subprocess.DEVNULL
    )
    parent = tmp_path / "results/tiny/checkpoints/base"
    until = time.monotonic() + 120
    while not list(parent.glob(".awq-w4g128.*.tmp")):
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (parent / "awq-w4g128").exists()
    assert list(parent.glob(".awq-w4g128.*.tmp"))
    done = run_script("quantize", *options)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in parent.iterdir()] == ["awq-w4g128"]
    read_manifest(parent / "awq-w4g128" / "manifest.json")


@pytest.mark.parametrize("scheme", ["bnb-nf4", "awq-w4g128"])
def test_a_weight_that_is_no_number_is_refused_before_any_work(call, tmp_path, tiny_folder, scheme):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    write_manifest(broken / "manifest.json", variant="base", scheme="dense")
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight .* infinite or not a number"):
        script_main("quantize")(call(scheme, checkpoint=broken / "manifest.json"))
    assert nothing_was_made(tmp_path)

"""AutoAWQ for real, with --autoawq-python: quantized in its own environment, read there and by the weight error."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from factories import ROOT, write_items
from gainwatt.checkpoint import read_manifest

SCHEME = "awq-w4g128-autoawq"


@pytest.fixture
def python(request):
    found = request.config.getoption("--autoawq-python")
    if not found:
        pytest.skip("needs --autoawq-python")
    return found


@pytest.mark.autoawq
def test_a_checkpoint_is_made_and_loaded(python, study_file, tiny_folder, tmp_path):
    file = study_file(quantize={"reference": "fp32", "schemes": [SCHEME], "calibration_items": 4})
    data = write_items(tmp_path / "data", train=6) / "train.jsonl"
    options = ["--study", file, "--variant", "base", "--scheme", SCHEME, "--data", data]
    options += ["--checkpoint", tiny_folder / "manifest.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    command = [python, str(ROOT / "scripts" / "quantize.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results/tiny/records/quantize" / f"base.{SCHEME}.json").read_text())
    assert record["status"] == "ok"
    assert 0.006 < record["metrics"]["relative_mse"] < 0.025
    assert record["metrics"]["quantized_matrices"] == 14
    errors = record["settings"]["layer_errors"]
    assert "model.layers.1.input_layernorm" in errors
    assert all(error["best"] > 0 and error["initial"] > 0 for error in errors.values())
    tool = record["settings"]["tool"]
    assert tool["tokens_used"] <= record["inputs"]["calibration"]["tokens"]
    here = record["settings"]["smoke"][0]
    assert (here["status"], here["kernels"]["WQLinear_GEMM[int32]"]) == ("ok", 14)
    check_files(tmp_path, tiny_folder)


def check_files(tmp_path, tiny_folder):
    """What version 4 of transformers would have dropped is still in the configuration."""
    made = read_manifest(tmp_path / "results/tiny/checkpoints/base" / SCHEME / "manifest.json")
    config = json.loads((made.folder / "config.json").read_text())
    source = json.loads((tiny_folder / "config.json").read_text())
    assert config["rope_parameters"] == source["rope_parameters"]
    assert config["quantization_config"]["quant_method"] == "awq"
    assert config["dtype"] == "float16"
    generation = made.folder / "generation_config.json"
    if generation.exists():
        assert not json.loads(generation.read_text()).get("do_sample")

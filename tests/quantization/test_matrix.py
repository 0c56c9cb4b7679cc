"""Every scheme of the core environment, from the script's main to the reloaded model, on a CPU."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from pyarrow import parquet

from factories import QUESTIONS, script_main, write_items
from gainwatt.checkpoint import read_manifest
from gainwatt.modeling import linear_modules, load_model, load_tokenizer
from gainwatt.schemes import SCHEMES, get_scheme
from gainwatt.study import load_study

# Relative squared error of random normal weights, from the formats: half a percent to one and a half for 4 bits, the
# rounding of 3 mantissa bits for FP8, of 127 steps up to a row's maximum for INT8.
BANDS = {
    "bnb-nf4": (0.006, 0.011),
    "bnb-nf4-single": (0.006, 0.011),
    "bnb-fp4": (0.009, 0.03),
    "bnb-int8": (1e-5, 1e-4),
    "bnb-int8-pure": (1e-5, 1e-4),
    "awq-w4g128": (0.006, 0.02),
    "gptq-w4g128": (0.01, 0.04),
    "fp8": (3e-4, 1e-3),
}
# Which layers multiply after the first use: compressed-tensors' checkpoints are dequantized, and the record says so.
LAYERS = {
    "bitsandbytes-4": "Linear4bit[uint8]",
    "bitsandbytes-8": "Linear8bitLt[int8]",
    "llmcompressor": "Linear[float32]",
}


def test_the_bands_are_of_all_schemes_that_run_here():
    assert set(BANDS) == {name for name, scheme in SCHEMES.items() if not scheme.dense and scheme.environment == "core"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("data"), train=6) / "train.jsonl"


@pytest.fixture
def made(scheme, study_file, tiny_folder, tmp_path, data):
    file = study_file(quantize={"reference": "fp32", "schemes": [scheme], "calibration_items": 4, "awq_grid_points": 3})
    options = ["--study", file, "--variant", "base", "--scheme", scheme, "--data", data]
    options += ["--checkpoint", tiny_folder / "manifest.json"]
    assert script_main("quantize")([str(option) for option in options]) == 0
    study = load_study(file)
    root = tmp_path / "results" / study.study
    record = json.loads((root / "records" / "quantize" / f"base.{scheme}.json").read_text())
    return study, record, root


@pytest.mark.parametrize("scheme", BANDS)
def test_a_scheme_is_made_measured_loaded_and_close_to_its_source(scheme, made, tiny_checkpoint):
    study, record, root = made
    assert record["status"] == "ok"
    check_errors(scheme, record, root)
    check_smoke(scheme, record)
    checkpoint = read_manifest(root / "checkpoints" / "base" / scheme / "manifest.json")
    assert checkpoint.parent_sha256 == tiny_checkpoint.sha256
    assert record["metrics"]["weights_after_bytes"] == checkpoint.weight_bytes
    assert 1.5 < record["metrics"]["compression_ratio"] < 8
    entry = get_scheme(scheme)
    assert ("calibration" in record["inputs"]) == entry.calibrated
    if scheme.startswith("awq"):
        assert all(error["best"] <= error["initial"] for error in record["settings"]["layer_errors"].values())
    tokenizer = load_tokenizer(checkpoint.folder)
    ids = torch.tensor([tokenizer(QUESTIONS[0])["input_ids"]])
    with torch.inference_mode():
        expected = load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")(ids).logits
        found = load_model(checkpoint, entry, study.model.dtype)(ids).logits
    relative = float((found - expected).square().sum() / expected.square().sum())
    assert 0 < relative < 30 * BANDS[scheme][1]


def check_errors(scheme, record, root):
    low, high = BANDS[scheme]
    assert low < record["metrics"]["relative_mse"] < high
    assert record["metrics"]["relative_mse"] <= record["metrics"]["relative_mse_max"]
    rows = parquet.read_table(root / "records" / "quantize" / f"base.{scheme}.layers.parquet").to_pylist()
    assert len(rows) == record["metrics"]["quantized_matrices"] == 2 * 7
    worst = max(rows, key=lambda row: row["relative_mse"])
    assert worst["module_name"] == record["settings"]["worst_matrix"]


def check_smoke(scheme, record):
    results = {result["engine"]: result for result in record["settings"]["smoke"]}
    assert list(results) == list(get_scheme(scheme).engines)
    here = results["transformers"]
    assert here["status"] == "ok"
    assert here["tokens"] == record["metrics"]["smoke_tokens"] > 0
    assert here["loaded_bytes"] == record["metrics"]["loaded_bytes"] > 0
    entry = get_scheme(scheme)
    layer = LAYERS.get(entry.kind) or LAYERS[f"{entry.kind}-{entry.stored_bits}"]
    assert here["kernels"][layer] >= 14
    if entry.kind == "llmcompressor":
        assert here["used_bytes"] > 1.5 * here["loaded_bytes"]
    for result in results.values():
        assert (result["reason"] is None) == (result["status"] == "ok")
    if not torch.cuda.is_available() and "vllm" in results:
        assert results["vllm"] == {
            "engine": "vllm", "environment": "vllm", "status": "unavailable", "reason": "no GPU",
        }  # fmt: skip


def test_layers_are_counted_by_class_and_type(tiny_checkpoint):
    model = load_model(tiny_checkpoint, get_scheme("bf16"), "fp32")
    assert Counter(linear_modules(model)) == {"Linear[bfloat16]": 15}

"""scripts/diagnose_weights.py with calibration text and quantized checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from gainwatt.checkpoint import read_manifest, write_missing
from gainwatt.errors import InputError
from gainwatt.record import read_record

from .naive import manifest
from .test_script import ROOT, main

__all__ = ["main"]
Main = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, its NF4 checkpoint, and training items."""
    from gainwatt.embedded import model, problems, tokenizer
    from gainwatt.quantization import bitsandbytes
    from gainwatt.schemes import get_scheme

    folder = tmp_path_factory.mktemp("text")
    rows = problems.generate(split="sft", n=60, seed=0)
    made = tokenizer.train_tokenizer([text for row in rows for text in (row["question"], row["answer"])], 300)
    tiny = model.build_model(made, hidden_size=128, intermediate_size=128, layers=2, heads=2, kv_heads=1, seed=0)
    tiny.save_pretrained(folder / "dense")
    made.save_pretrained(folder / "dense")
    dense = read_manifest(manifest(folder / "dense", "base"))
    scheme = get_scheme("bnb-nf4")
    bitsandbytes.quantize(dense, scheme, folder / "nf4", dtype="fp32", trust_remote_code=False)
    manifest(folder / "nf4", "base", scheme="bnb-nf4", parent_sha256=dense.sha256)
    lines = [json.dumps({"question": row["question"], "answer": row["answer"]}) for row in rows[:6]]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def arguments(folder: Path, record: Path, *quantized: str) -> list[str]:
    settings = ["energy.idle_s=0", "quantize.reference=fp32", "quantize.calibration_items=5", "diagnose.text_items=3"]
    words = ["--study", str(ROOT / "config" / "demo.yaml"), "--variant", "base", "--record", str(record)]
    words += ["--checkpoint", str(folder / "dense" / "manifest.json")]
    words += [word for entry in settings for word in ("--set", entry)]
    return words + [word for entry in quantized for word in ("--quantized", entry)]


def test_quantized_outputs_and_activations(tmp_path: Path, folder: Path, main: Main) -> None:
    write_missing(tmp_path / "awq.json", variant="base", scheme="awq-w4g128", status="oom", reason="too large")
    quantized = (f"bnb-nf4={folder / 'nf4' / 'manifest.json'}", f"awq-w4g128={tmp_path / 'awq.json'}")
    data = ["--data", str(folder / "train.jsonl")]
    assert main([*arguments(folder, tmp_path / "base.json", *quantized), *data]) == 0
    record = read_record(tmp_path / "base.json")
    metrics = record["metrics"]
    assert record["inputs"]["text"]["items"] == 3
    assert record["inputs"]["quantized_bnb_nf4"]["scheme"] == "bnb-nf4"
    assert 0 < metrics["logit_kl_nats_bnb_nf4"] < 1
    assert 0 < metrics["final_state_relative_error_bnb_nf4"] < 1
    assert metrics["logit_kl_nats_awq_w4g128"] is None
    assert "too large" in record["null_reasons"]["logit_kl_nats_awq_w4g128"]
    assert metrics["act_max_abs_max"] > 0
    assert 0 < metrics["output_relative_error_bnb_nf4_mean"] < metrics["output_relative_error_symmetric_w4_mean"]
    assert parquet.read_table(tmp_path / "base.activations.parquet").num_rows == 14
    blocks = parquet.read_table(tmp_path / "base.outputs.parquet").to_pylist()
    assert [(row["against"], row["block"]) for row in blocks] == [("bnb-nf4", 0), ("bnb-nf4", 1)]
    assert blocks[-1]["relative_error"] == metrics["final_state_relative_error_bnb_nf4"]
    assert set(record["outputs"]) >= {"layers", "activations", "outputs"}


def test_without_text_activations_are_null(tmp_path: Path, folder: Path, main: Main) -> None:
    assert main(arguments(folder, tmp_path / "base.json")) == 0
    record = read_record(tmp_path / "base.json")
    assert record["metrics"]["act_max_abs_max"] is None
    assert "--data" in record["null_reasons"]["act_max_abs_max"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path, folder: Path, main: Main) -> None:
    dense, data = folder / "dense" / "manifest.json", ["--data", str(folder / "train.jsonl")]
    record = tmp_path / "r.json"
    for quantized, options, says in (
        (f"bnb-nf4={dense}", data, "is not the bnb-nf4 checkpoint that was made from"),
        (f"bnb-nf4={dense}", [], "is not the bnb-nf4 checkpoint that was made from"),
        ("bnb-nf4", data, "cannot read 'bnb-nf4' as a quantized checkpoint"),
        (f"bf16={dense}", data, "cannot read 'bf16="),
        (f"nf5={dense}", data, "no quantization scheme 'nf5'"),
    ):
        with pytest.raises(InputError) as error:
            main([*arguments(folder, record, quantized), *options])
        assert says in str(error.value)
        assert not list(tmp_path.glob("r.*")), "refused before anything was measured"

"""The studies of one H200 in config/h200, and the random checkpoints that they are measured on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from factories import ROOT
from gainwatt.checkpoint import read_manifest
from gainwatt.modeling import load_tokenizer
from gainwatt.study import Layout, load_study

STUDIES = sorted((ROOT / "config" / "h200").glob("*.yaml"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("random_weights", ROOT / "benchmarks" / "random_weights.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # as when the script is started
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_load_and_lie_beside_the_reference_study(path):
    study = load_study(path)
    assert study.study == f"h200-{path.stem}"
    assert Layout.of(study).results == Path("results/reference") / study.study
    assert any((study.serve, study.profile, study.train_profile, study.heads))
    assert f"--study config/h200/{path.name}" in path.read_text("utf-8")


def test_autoawq_words_hold_the_nearest_steps(script):
    torch = pytest.importorskip("torch")
    weight = torch.randn(256, 32, generator=torch.Generator().manual_seed(0))
    codes, zeros, scales = script.rounded(weight)
    places = torch.arange(0, 32, 4)
    order = [script.AUTOAWQ_ORDER.index(column) for column in range(8)]

    def unpacked(words):
        return ((words[:, :, None] >> places) & 15)[:, :, order].reshape(words.shape[0], -1)

    assert torch.equal(unpacked(script.packed(codes)), codes.int())
    assert torch.equal(unpacked(script.packed(zeros)), zeros.int())
    assert script.packed(codes).shape == (256, 4)
    restored = (codes - zeros.repeat_interleave(128, 0)) * scales.float().repeat_interleave(128, 0)
    assert ((restored - weight).abs() <= 1.01 * scales.float().repeat_interleave(128, 0)).all()


def test_checkpoints_lie_where_the_study_expects_them(script, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    options = [f"paths.results={tmp_path}", "quantize.schemes=[awq-w4g128, awq-w4g128-autoawq]"]
    words = ["random_weights.py", "--study", str(ROOT / "config" / "h200" / "serving.yaml"), "--shape", "tiny"]
    monkeypatch.setattr("sys.argv", [*words, "--outliers", *(word for entry in options for word in ("--set", entry))])
    assert script.main() == 0
    layout = Layout.of(load_study(ROOT / "config" / "h200" / "serving.yaml", options))
    base, moved = (read_manifest(layout.manifest(name)) for name in ("base", "grpo-s0"))
    weights = [safetensors.load_file(made.folder / "model.safetensors") for made in (base, moved)]
    name = "model.layers.0.mlp.up_proj.weight"
    moves = (weights[1][name].float() - weights[0][name].float()).abs()
    # bf16 keeps 8 bits: a move is only seen where it is larger than half a step
    assert 0 < moves.mean() < 2 * script.MOVED
    assert (weights[0]["model.layers.0.input_layernorm.weight"][: script.OUTLIERS] == script.OUTLIER).all()
    table = weights[0]["model.embed_tokens.weight"]
    tokenizer = load_tokenizer(base.folder)
    silent = script.without_text(tokenizer)
    assert tokenizer.eos_token_id in silent
    assert 0 < len(silent) < len(tokenizer) - 200
    assert not table[silent].any()
    assert not table[len(tokenizer) :].any()
    assert table[tokenizer.encode("a")].any()
    awq = read_manifest(layout.manifest("base", "awq-w4g128-autoawq"))
    assert awq.parent_sha256 == base.sha256
    config = json.loads((awq.folder / "config.json").read_text("utf-8"))
    assert config["quantization_config"]["quant_method"] == "awq"
    assert not layout.manifest("base", "awq-w4g128").exists()
    assert "left to scripts/quantize.py" in capsys.readouterr().err
    stamp = (base.folder / "model.safetensors").stat().st_mtime_ns
    assert script.main() == 0  # what is there stays
    assert (base.folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert torch.isfinite(weights[0][name]).all()

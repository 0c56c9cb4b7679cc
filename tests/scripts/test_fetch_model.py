"""The base model from a local folder or the hub."""

from __future__ import annotations

from factories import run_script, study_content, write_study
from gainwatt.checkpoint import read_manifest
from gainwatt.record import read_record


def fetch(tmp_path, **model):
    file = write_study(tmp_path, study_content(tmp_path, model=model))
    return run_script("fetch_model", "--study", file), tmp_path / "results" / "tiny"


def test_a_folder_is_used_where_it_lies(tmp_path, tiny_folder, tiny_checkpoint):
    done, results = fetch(tmp_path, source=str(tiny_folder), dtype="fp32")
    assert done.returncode == 0, done.stderr
    found = read_manifest(results / "checkpoints" / "base" / "dense" / "manifest.json")
    assert found.folder == tiny_folder
    assert found.sha256 == tiny_checkpoint.sha256
    record = read_record(results / "records" / "fetch_model" / "base.json")
    assert record["outputs"]["checkpoint"] == {"sha256": found.sha256, "bytes": found.weight_bytes}


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").touch()
    done, results = fetch(tmp_path, source=str(tmp_path / "model"))
    assert done.returncode == 2
    assert "must hold config.json and *.safetensors" in done.stderr
    assert not results.exists() or not list(results.rglob("*.json"))


def test_the_hub_offline_names_the_files_needed(tmp_path):
    done, results = fetch(tmp_path, source="hub:no-such-org/no-such-model", revision="0" * 40)
    assert done.returncode == 2
    assert "cannot download no-such-org/no-such-model at revision 000" in done.stderr
    assert "hf download no-such-org/no-such-model --revision 000" in done.stderr
    assert "--include '*.safetensors'" in done.stderr
    assert "make fetch" in done.stderr
    assert not list(results.rglob("manifest.json"))
    assert not list(results.rglob("*.tmp"))


def test_the_embedded_model_is_not_fetched(tmp_path):
    done, _ = fetch(tmp_path, source="embedded")
    assert done.returncode == 2
    assert "scripts/warm_start.py" in done.stderr

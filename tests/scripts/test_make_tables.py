"""Tables from records by the command line: the same bytes each time, and nothing heavy imported."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest

from factories import ROOT, run_script, study_content, write_all_records, write_study
from gainwatt.study import load_study

TABLES = {
    "accuracy_matrix", "paired_quant_effect", "gains", "gain_survival", "changed_items", "perplexity", "tasks",
    "cost_per_correct", "training_payback", "energy_by_job", "training", "quantization", "weights", "weight_errors",
    "weight_changes", "weight_layers", "inference_benchmark", "profile", "profile_ratios", "profile_claims",
    "profile_definitions", "serving_benchmark", "serving_offline", "serving_online", "serving_capacity",
    "serving_kernels", "heads", "head_scores", "head_changes", "head_agreement", "head_pruning", "llamacpp_backends",
    "llamacpp_per_token", "llamacpp_arms", "llamacpp_ablations", "llamacpp_ranking", "llamacpp_race",
    "published_inference", "train_profile", "train_profile_ratios", "train_profile_published", "train_profile_steps",
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = write_study(tmp_path, study_content(tmp_path))
    write_all_records(load_study(path))
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_table_and_the_summary_and_the_same_bytes_again(file, tmp_path):
    done = run_script("make_tables", "--study", file, "--out", tmp_path / "a", "--show")
    assert done.returncode == 0, done.stderr
    first = contents(tmp_path / "a")
    assert set(first) == {"summary.md"} | {f"{name}.csv" for name in TABLES}
    assert done.stdout.startswith(first["summary.md"].decode())
    assert str(tmp_path / "results" / "tiny" / "figures") in done.stdout
    assert run_script("make_tables", "--study", file, "--out", tmp_path / "b", PYTHONHASHSEED="7").returncode == 0
    assert contents(tmp_path / "b") == first
    rows = list(csv.DictReader((tmp_path / "a" / "accuracy_matrix.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["base.fp32", "base.bnb-nf4", "grpo-s0.fp32", "grpo-s0.bnb-nf4"]


def test_data_and_model_need_not_be_at_hand(tmp_path):
    gone = str(tmp_path / "gone")
    content = study_content(tmp_path, data={"source": gone}, model={"source": gone, "dtype": "fp32"})
    path = write_study(tmp_path, content)
    write_all_records(load_study(path, check_paths=False))
    done = run_script("make_tables", "--study", path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "tiny" / "tables" / "summary.md").exists()


def test_records_of_other_settings_are_refused_or_marked(file, tmp_path):
    changed = ["--study", file, "--set", "evaluate.batch_size=99", "--out", tmp_path / "out"]
    done = run_script("make_tables", *changed)
    assert done.returncode == 3
    assert "4 record(s) were made with other settings" in done.stderr
    assert "base.fp32.json: evaluate.batch_size was 16, and the study says 99" in done.stderr
    assert "--set evaluate.batch_size=16" in done.stderr
    assert "--allow-stale" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run_script("make_tables", *changed, "--allow-stale")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "summary.md").read_text()
    assert text.startswith("> **Stale:** 4 record(s) were made with other settings")
    rows = list(csv.DictReader((tmp_path / "out" / "stale.csv").read_text().splitlines()))
    assert [(row["setting"], row["recorded"], row["wanted"]) for row in rows] == [
        ("evaluate.batch_size", "16", "99")
    ] * 4
    run_script("make_tables", "--study", file, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "stale.csv").exists()
    assert "Stale" not in (tmp_path / "out" / "summary.md").read_text()


def test_no_records_is_two_lines_and_a_code(tmp_path):
    done = run_script("make_tables", "--study", write_study(tmp_path, study_content(tmp_path)))
    assert done.returncode == 3
    assert done.stderr.splitlines()[0].startswith("error: there is no evaluation record of the study 'tiny'")
    assert "what to do:" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_heavy_is_imported(file, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['make_tables.py', '--study', {str(file)!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'make_tables.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'matplotlib') if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

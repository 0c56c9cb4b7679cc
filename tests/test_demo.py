"""The embedded study from end to end: structure and sanity of its results, never a lucky value.

Runs the study in place (`results/demo`) where `make demo` has not done so yet; marked `demo`, since that takes minutes.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gainwatt.record import read_records
from gainwatt.study import Layout, evaluation_cells, load_study, trained_variants, variants

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "config" / "demo.yaml"

pytestmark = pytest.mark.demo


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "study=config/demo.yaml", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)


@pytest.fixture(scope="module")
def demo():
    done = snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    study = load_study(STUDY)
    return study, Layout(ROOT / "results" / "demo", ROOT / "results" / "demo")


def table(layout: Layout, name: str) -> list[dict[str, str]]:
    with (layout.tables / f"{name}.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_every_cell_is_measured_on_every_item(demo):
    study, layout = demo
    rows = table(layout, "accuracy_matrix")
    assert [row["label"] for row in rows] == [cell.name for cell in evaluation_cells(study)]
    for row in rows:
        assert row["status"] == "ok"
        assert int(row["num_examples"]) == study.embedded.problems.test_items
        assert int(row["correct"]) / int(row["num_examples"]) == pytest.approx(float(row["accuracy"]))
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
        assert float(row["accuracy_low"]) < float(row["accuracy_high"])
        assert float(row["ended_with_eos_rate"]) > 0.9


def test_the_base_model_can_do_some_of_the_task(demo):
    _, layout = demo
    reference = next(row for row in table(layout, "accuracy_matrix") if row["variant"] == "base")
    assert 0.15 < float(reference["accuracy"]) < 0.65


def test_training_gained_more_than_chance(demo):
    study, layout = demo
    reference = study.quantize.reference
    rows = [row for row in table(layout, "gains") if row["from"] == f"base.{reference}"]
    assert len(rows) == len(trained_variants(study))
    for row in rows:
        assert float(row["difference_low"]) > 0
        assert float(row["mcnemar_p_holm"]) < 0.01
        assert int(row["improved"]) - int(row["worsened"]) == round(float(row["difference"]) * int(row["n"]))


def test_survival_is_judged_for_every_scheme(demo):
    study, layout = demo
    rows = table(layout, "gain_survival")
    assert {row["scheme"] for row in rows} == set(study.quantize.schemes)
    for row in rows:
        left = float(row["delta_quantized"]) - float(row["delta_reference"])
        assert float(row["gain_survival"]) == pytest.approx(left, abs=1e-8)
        assert float(row["gain_survival_low"]) <= left <= float(row["gain_survival_high"])
        assert row["verdict"] in {"survives", "reduced", "erased", "undecided"}
        assert row["why"]


def test_every_record_says_how_it_was_made(demo):
    _, layout = demo
    folder = layout.results / "records"
    stages = sorted(path.name for path in folder.iterdir())
    assert stages == [
        "diagnose_weights", "evaluate_gsm8k", "prepare_data", "quantize", "train_grpo", "train_sft_control",
        "warm_start",
    ]  # fmt: skip
    for stage in stages:
        for record in read_records(folder, stage):
            assert record["status"] == "ok"
            assert record["inputs"]["settings"]["sha256"]
            assert record["environment"]["packages"]["torch"]
            assert record["phases"]
            if record["energy"]["gross_j"] is None:
                assert record["energy"]["null_reasons"]["gross_j"]


def test_what_is_evaluated_is_what_was_trained(demo):
    study, layout = demo
    folder = layout.results / "records"
    made = {record["cell"]["variant"]: record for record in read_records(folder, "train_grpo")}
    for record in read_records(folder, "evaluate_gsm8k"):
        if record["cell"]["scheme"] == study.quantize.reference and record["cell"]["variant"] in made:
            trained = made[record["cell"]["variant"]]["outputs"]["checkpoint"]["sha256"]
            assert record["inputs"]["checkpoint"]["sha256"] == trained
            manifest = json.loads(layout.manifest(record["cell"]["variant"]).read_text())
            assert manifest["sha256"] == trained


def test_train_and_test_share_no_question_and_no_combination(demo):
    _, layout = demo
    splits = {}
    for split in ("sft", "train", "validation", "test"):
        splits[split] = [json.loads(line) for line in layout.data(split).read_text().splitlines()]
    for split in ("sft", "train", "validation"):
        for key in ("question", "combination"):
            assert not {row[key] for row in splits["test"]} & {row[key] for row in splits[split]}


def test_weights_are_diagnosed_on_the_evaluated_checkpoints(demo):
    study, layout = demo
    rows = table(layout, "weights")
    assert [row["variant"] for row in rows] == [*variants(study), "sft-s0"]


def test_training_flips_about_as_many_codes_as_its_controls(demo):
    """The supervised control has the same step size, so an NF4 code is about as likely to flip."""
    _, layout = demo
    flips = {
        row["change"]: float(row["code_flip_frac"])
        for row in table(layout, "weight_changes")
        if row["scheme"] == "bnb-nf4" and row["code_flip_frac"]
    }
    assert {"grpo-s0", "sft-s0"} <= set(flips)
    assert 0 < flips["grpo-s0"] < 0.5
    assert flips["sft-s0"] == pytest.approx(flips["grpo-s0"], rel=0.25)


def test_the_validator_finds_nothing(demo):
    _, layout = demo
    assert table(layout, "validation") == []
    assert (layout.tables / "checked.json").exists()


def test_the_pages_show_the_verdict_of_every_scheme(demo):
    study, layout = demo
    report = (layout.results / "report.html").read_text(encoding="utf-8")
    for row in table(layout, "gain_survival"):
        assert row["verdict"] in report
    for scheme in study.quantize.schemes:
        assert scheme in report
    assert "http://" not in report.replace("http://www.w3.org/", "")
    assert (layout.results / "items.html").stat().st_size > 100_000


def test_every_figure_is_drawn_or_says_why_not(demo):
    _, layout = demo
    index = json.loads((layout.figures / "index.json").read_text())
    for name, entry in index.items():
        assert entry["files"] or entry["reason"], name
        for file in entry["files"]:
            assert (layout.figures / file).stat().st_size > 1000
    assert index["accuracy"]["files"]
    assert index["training"]["files"]


def test_a_second_run_does_nothing(demo):
    done = snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_tables_are_the_same_bytes_again(demo, tmp_path):
    _, layout = demo
    command = [sys.executable, "scripts/make_tables.py", "--study", "config/demo.yaml", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    others = {"validation.csv", "checked.json"}  # by the validator
    assert made == sorted(path.name for path in layout.tables.iterdir() if path.name not in others)
    for path in (layout.tables / name for name in made):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()

"""One cell by the command line: what the record holds, and going on after a kill."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from factories import run_script, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.engines.base import Completion
from gainwatt.evaluation.partial import PartialResults
from gainwatt.record import file_sha256, read_record, text_sha256
from gainwatt.study import Cell, Layout, load_study
from gainwatt.tables.accuracy import accuracy_matrix
from gainwatt.tables.cost import per_correct_answer
from gainwatt.tables.results import Results

CELL = Cell("base", "fp32")


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    """Study file and layout with data and base model in place."""
    evaluate = {"batch_size": 3, "max_new_tokens": 8}
    file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "evaluate": evaluate})
    study = load_study(file)
    layout = Layout.of(study)
    write_items(layout.data("test").parent, test=5)
    manifest = layout.manifest("base")
    manifest.parent.mkdir(parents=True)
    made = write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
    return file, study, layout, made


def evaluate(file):
    return run_script("evaluate_gsm8k", "--study", file, "--variant", "base", "--scheme", "fp32")


def test_a_cell(prepared):
    file, study, layout, made = prepared
    done = evaluate(file)
    assert done.returncode == 0, done.stderr
    path = layout.record("evaluate_gsm8k", CELL.name)
    record = read_record(path, stage="evaluate_gsm8k")
    metrics = record["metrics"]
    assert record["status"] == "ok"
    assert record["inputs"]["checkpoint"]["sha256"] == made.sha256
    assert record["inputs"]["data"]["sha256"] == file_sha256(layout.data("test"))
    assert (metrics["num_examples"], metrics["resumed_items"]) == (5, 0)
    assert metrics["generate_s"] > 0
    assert metrics["reference_ppl"] > 1
    assert record["settings"]["effective"]["batch_size"] == 3
    assert {"load", "warm_up", "generate", "reference"} == {phase["name"] for phase in record["phases"]}
    rows = parquet.read_table(path.with_suffix(".items.parquet")).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert sum(row["tokens"] for row in rows) == metrics["generated_tokens"]
    assert not (layout.work("evaluate_gsm8k", CELL.name) / "completions.jsonl").exists()
    results = Results.load(study, layout)
    assert accuracy_matrix(results)[0]["num_examples"] == 5
    assert per_correct_answer(results)[0]["batch_size"] == 3


def test_a_killed_evaluation_goes_on(prepared):
    file, study, layout, made = prepared
    data = file_sha256(layout.data("test"))
    identity = text_sha256(f"{study.settings_sha256('evaluate_gsm8k')} {made.sha256} {data} fp32")
    path = layout.work("evaluate_gsm8k", CELL.name) / "completions.jsonl"
    PartialResults(path, identity).add([Completion(i, f"#### {i + 2}", 7, "stop", 1.5, 2) for i in (1, 3)])
    with path.open("a") as handle:
        handle.write(json.dumps({"index": 4})[:-3])
    done = evaluate(file)
    assert done.returncode == 0, done.stderr
    record = read_record(layout.record("evaluate_gsm8k", CELL.name))
    assert record["metrics"]["resumed_items"] == 2
    assert record["metrics"]["correct"] >= 2
    rows = parquet.read_table(layout.sidecar("evaluate_gsm8k", CELL.name, "items")).to_pylist()
    assert [row["correct"] for row in rows][1:4:2] == [True, True]
    assert [row["tokens"] for row in rows][1:4:2] == [7, 7]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--set", "evaluate.max_prompt_tokens=3"], "the prompt of test item 0 has"),
        (["--set", "evaluate.max_new_tokens=4000"], "lower evaluate.max_new_tokens"),
    ],
)
def test_what_does_not_fit_is_named_before_the_first_item(prepared, settings, said):
    file, _, layout, _ = prepared
    done = run_script("evaluate_gsm8k", "--study", file, "--variant", "base", "--scheme", "fp32", *settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not layout.record("evaluate_gsm8k", CELL.name).exists()


def test_a_checkpoint_that_could_not_be_made_is_a_result(prepared):
    from gainwatt.checkpoint import write_missing

    file, _, layout, _ = prepared
    manifest = layout.manifest("base", "bnb-nf4")
    write_missing(manifest, variant="base", scheme="bnb-nf4", status="oom", reason="too large")
    done = run_script("evaluate_gsm8k", "--study", file, "--variant", "base", "--scheme", "bnb-nf4")
    assert done.returncode == 0, done.stderr
    record = read_record(layout.record("evaluate_gsm8k", "base.bnb-nf4"))
    assert record["status"] == "unavailable"
    assert "oom, too large" in record["reason"]

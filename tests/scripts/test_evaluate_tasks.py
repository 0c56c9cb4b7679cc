"""The command line without lm-eval, and (marked) with it on a real checkpoint; perplexity against lm-eval's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from pyarrow import parquet

from factories import ROOT, run_script, write_items, write_study
from faults.conftest import HOOK
from gainwatt.checkpoint import write_manifest
from gainwatt.modeling import load_tokenizer
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study

CELL = ("--variant", "base", "--scheme", "fp32")


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    """Call with sections to write a study with base model and questions; returns its file and layout."""

    def write(**sections):
        file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, **sections})
        layout = Layout.of(load_study(file))
        write_items(layout.data("test").parent, test=12)
        manifest = layout.manifest("base")
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
        return file, layout

    return write


def run_with(python, script, *options, paths=(), **more):
    """Run a script with the interpreter that has lm-eval; `more` are variables of its environment."""
    searched = os.pathsep.join(map(str, [*paths, ROOT / "src"]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": searched, **more}
    command = [python, str(ROOT / "scripts" / f"{script}.py"), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_a_machine_without_lm_eval_is_a_result(prepared):
    file, layout = prepared(tasks={"names": ["hellaswag"]})
    done = run_script("evaluate_tasks", "--study", file, *CELL)
    assert done.returncode == 0, done.stderr
    record = read_record(layout.record("evaluate_tasks", "base.fp32"))
    assert record["status"] == "unavailable"
    assert "lm-eval is not installed" in record["reason"]


@pytest.mark.parametrize(
    ("sections", "options", "said"),
    [
        ({}, CELL, "has no section tasks"),
        ({"tasks": {"names": ["a"]}}, (), "no cell is named"),
        ({"tasks": {"names": ["a", "a"]}}, CELL, "names a task twice"),
    ],
)
def test_what_cannot_run_is_said(prepared, sections, options, said):
    folder = prepared()[0].parent
    file = write_study(folder, sections)
    done = run_script("evaluate_tasks", "--study", file, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.lm_eval
def test_a_task_of_ones_own_and_hellaswag_itself(prepared, tmp_path, lm_eval_python):
    """lm-eval's own code, HellaSwag's own task included, on data that are here."""
    folder, local = tmp_path / "example", tmp_path / "hellaswag-data"
    folder.mkdir()
    tasks = {
        "names": ["question_endings", "hellaswag"], "include_path": str(folder),
        "local_data": {"hellaswag": str(local)}, "limit": 10,
    }  # fmt: skip
    local.mkdir()
    file, layout = prepared(tasks=tasks)
    assert run_script("evaluate_tasks", "--study", file, "--write-example", folder).returncode == 0
    for split in ("train", "validation"):
        shutil.copy(folder / "validation.jsonl", local / f"{split}.jsonl")
    done = run_with(lm_eval_python, "evaluate_tasks", "--study", file, *CELL)
    assert done.returncode == 0, done.stderr[-3000:]
    path = layout.record("evaluate_tasks", "base.fp32")
    record = read_record(path, stage="evaluate_tasks")
    assert record["status"] == "ok", record["reason"]
    rows = parquet.read_table(path.with_suffix(".samples.parquet")).to_pylist()
    for task in tasks["names"]:
        values = [row["value"] for row in rows if (row["task"], row["metric"]) == (task, "acc")]
        assert len(values) == record["metrics"][f"{task}.items"] == 10
        assert sum(values) / 10 == pytest.approx(record["metrics"][f"{task}.acc"])
        assert record["metrics"][f"{task}.acc_stderr"] >= 0
    about = record["settings"]["lm_eval"]["tasks"]["hellaswag"]
    assert (about["items_in_task"], about["version"], about["dataset_path"]) == (12, 1.0, "Rowan/hellaswag")
    assert not list(layout.work("evaluate_tasks", "base.fp32").glob("*.json"))


@pytest.mark.lm_eval
def test_a_killed_run_goes_on_with_the_tasks_that_are_left(prepared, tmp_path, lm_eval_python):
    """Killed while the second task's results and while the record are being renamed: the same items, nothing left."""
    folder, hook = tmp_path / "example", tmp_path / "hook"
    for path in (folder, hook):
        path.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    sections = {"tasks": {"names": ["question_endings", "second"], "include_path": str(folder)}}
    file, layout = prepared(**sections)
    assert run_script("evaluate_tasks", "--study", file, "--write-example", folder).returncode == 0
    (example,) = folder.glob("*.yaml")
    (folder / "second.yaml").write_text(example.read_text().replace("task: question_endings", "task: second"))
    path, work = layout.record("evaluate_tasks", "base.fp32"), layout.work("evaluate_tasks", "base.fp32")
    names = {"FAULT_ROOT": str(layout.results), "FAULT_SIGNAL": "SIGKILL"}

    def run(**more):
        return run_with(lm_eval_python, "evaluate_tasks", "--study", file, *CELL, paths=[hook], **names, **more)

    def product():
        record = read_record(path, stage="evaluate_tasks")
        assert record["status"] == "ok", record["reason"]
        samples = parquet.read_table(path.with_suffix(".samples.parquet")).to_pylist()
        scores = {name: value for name, value in record["metrics"].items() if not name.endswith("_mib")}
        return scores, record["inputs"], record["settings"]["lm_eval"], samples

    assert run().returncode == 0
    expected = product()
    for made in (path, path.with_suffix(".samples.parquet")):
        made.unlink()
    finished = []
    for at in (work / "second.json", path):
        done = run(FAULT_AT=f"os.rename {at.relative_to(layout.results)}")
        assert done.returncode == -9, done.stderr[-2000:]
        assert not path.exists()
        finished.append({found.name: found.stat().st_mtime_ns for found in work.glob("*.json")})
    assert [sorted(found) for found in finished] == [
        ["question_endings.json"],
        ["question_endings.json", "second.json"],
    ]
    assert finished[0]["question_endings.json"] == finished[1]["question_endings.json"], "the first task ran again"
    assert run().returncode == 0
    assert product() == expected
    assert not list(work.glob("*"))


@pytest.mark.lm_eval
@pytest.mark.parametrize(
    ("tasks", "code", "said"),
    [
        ({"names": ["hellaswga"]}, 2, "did you mean 'hellaswag'?"),
        ({"names": ["hellaswag"]}, 4, "needs the data set 'Rowan/hellaswag', which is not on this machine"),
    ],
)
def test_unknown_tasks_and_data_out_of_reach(prepared, tmp_path, lm_eval_python, monkeypatch, tasks, code, said):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    file, _ = prepared(tasks=tasks)
    done = run_with(lm_eval_python, "evaluate_tasks", "--study", file, "--list")
    assert done.returncode == code
    assert said in done.stderr
    assert "what to do:" in done.stderr


@pytest.mark.lm_eval
def test_perplexity_is_lm_evals_where_the_definitions_meet(prepared, tmp_path, tiny_folder, lm_eval_python):
    """A document of 2·L tokens, lm-eval's model length L: windows of L + 1 tokens that move on by L."""
    text = "Anna has 3 apples and buys 5 more.\n How many apples does Anna have? Ben has 2. " * 4
    tokenizer = load_tokenizer(tiny_folder)
    while len(tokenizer(text, add_special_tokens=False)["input_ids"]) % 2:
        text = text[:-1]
    length = len(tokenizer(text, add_special_tokens=False)["input_ids"]) // 2
    corpus, folder = tmp_path / "corpus.txt", tmp_path / "rolling"
    corpus.write_text(text)
    folder.mkdir()
    (folder / "doc.jsonl").write_text(json.dumps({"page": text}) + "\n")
    (folder / "rolling.yaml").write_text(
        "task: rolling\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: "
        f"{json.dumps(str(folder / 'doc.jsonl'))}\noutput_type: loglikelihood_rolling\ntest_split: test\n"
        'doc_to_text: ""\ndoc_to_target: "{{page}}"\nmetric_list:\n  - metric: word_perplexity\n'
        "  - metric: bits_per_byte\nmetadata:\n  version: 1.0\n"
    )
    sections = {
        "perplexity": {"corpus": str(corpus), "window": length + 1, "stride": length},
        "tasks": {"names": ["rolling"], "include_path": str(folder), "max_tokens": length},
    }
    file, layout = prepared(**sections)
    ours = run_script("evaluate_perplexity", "--study", file, *CELL)
    theirs = run_with(lm_eval_python, "evaluate_tasks", "--study", file, *CELL)
    assert ours.returncode == theirs.returncode == 0, ours.stderr[-2000:] + theirs.stderr[-2000:]
    metrics = read_record(layout.record("evaluate_perplexity", "base.fp32"))["metrics"]
    reference = read_record(layout.record("evaluate_tasks", "base.fp32"))["metrics"]
    assert metrics["bits_per_byte"] == pytest.approx(reference["rolling.bits_per_byte"], rel=1e-5)
    assert metrics["word_perplexity"] == pytest.approx(reference["rolling.word_perplexity"], rel=1e-4)

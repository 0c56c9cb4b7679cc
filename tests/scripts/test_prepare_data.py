"""Questions from a folder, the generator or the hub, checked on the way."""

from __future__ import annotations

import json

import pytest

from factories import run_script, study_content, write_items, write_study
from gainwatt.gsm8k.data import read_items
from gainwatt.record import file_sha256, read_record


def prepare(tmp_path, **data):
    file = write_study(tmp_path, study_content(tmp_path, data={"prompt_template": "{question}", **data}))
    done = run_script("prepare_data", "--study", file)
    return done, tmp_path / "results" / "tiny" / "data"


@pytest.fixture
def folder(tmp_path):
    return write_items(tmp_path / "source", train=8, test=4)


def local_model(tmp_path):
    """A study whose model is no embedded one needs no warm-start splits."""
    (tmp_path / "model").mkdir()
    return {"source": str(tmp_path / "model")}


def test_a_folder_with_limits(tmp_path, folder):
    content = study_content(
        tmp_path,
        data={"source": str(folder), "train_limit": 5, "test_limit": 2, "prompt_template": "{question}"},
        model=local_model(tmp_path),
    )
    done = run_script("prepare_data", "--study", write_study(tmp_path, content))
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "tiny" / "data"
    assert sorted(path.name for path in out.iterdir()) == ["test.jsonl", "train.jsonl"]
    assert read_items(out / "train.jsonl") == read_items(folder / "train.jsonl")[:5]
    record = read_record(tmp_path / "results" / "tiny" / "records" / "prepare_data" / "data.json")
    assert record["metrics"] == {"train_items": 5, "test_items": 2}
    assert record["outputs"]["test"]["sha256"] == file_sha256(out / "test.jsonl")


def test_the_generator_is_repeatable_and_disjoint(tmp_path):
    sizes = {"sft_items": 30, "train_items": 20, "validation_items": 5, "test_items": 10}
    content = study_content(tmp_path, embedded={"problems": sizes})
    file = write_study(tmp_path, content)
    outputs = []
    for out in ("a", "b"):
        done = run_script("prepare_data", "--study", file, "--out", tmp_path / out, PYTHONHASHSEED=str(len(out)))
        assert done.returncode == 0, done.stderr
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    assert outputs[0] == outputs[1]
    questions = {path.stem: {item.question for item in read_items(path)} for path in (tmp_path / "a").iterdir()}
    assert {split: len(questions[split]) for split in ("train", "validation", "test")} == {
        "train": 20, "validation": 5, "test": 10,
    }  # fmt: skip
    assert len(questions["sft"]) >= 30  # the warm start may see more than the problems of its own split
    assert not questions["test"] & (questions["train"] | questions["sft"] | questions["validation"])


def test_a_test_question_in_train_is_refused(tmp_path, folder):
    rows = (folder / "train.jsonl").read_text().splitlines()
    (folder / "test.jsonl").write_text(rows[0] + "\n")
    content = study_content(
        tmp_path, data={"source": str(folder), "prompt_template": "{question}"}, model=local_model(tmp_path)
    )
    done = run_script("prepare_data", "--study", write_study(tmp_path, content))
    assert done.returncode == 2
    assert "1 test question(s) also stand in train" in done.stderr
    assert not list((tmp_path / "results" / "tiny").rglob("records/*/*"))


def test_a_broken_line_is_named(tmp_path, folder):
    with (folder / "train.jsonl").open("a") as handle:
        handle.write(json.dumps({"question": "x?", "answer": "no mark"}) + "\n")
    done, _ = prepare(tmp_path, source=str(folder))
    assert done.returncode == 2
    assert "train.jsonl, line 9" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hub_offline_names_the_files_needed(tmp_path):
    done, _ = prepare(tmp_path, source="hub:no-such-org/no-such-set", revision="0" * 40)
    assert done.returncode == 2
    assert "cannot read the data set no-such-org/no-such-set at revision 000" in done.stderr
    assert "results/tiny/data/train.jsonl" in done.stderr
    assert "Any train.jsonl and test.jsonl" in done.stderr
    assert "make fetch" in done.stderr
    assert not done.stderr.rstrip().splitlines()[-1].startswith("Traceback")


def test_the_study_chooses_the_families_of_problems(tmp_path):
    sizes = {"sft_items": 20, "drill_items": 0, "train_items": 12, "validation_items": 4, "test_items": 8}
    content = study_content(tmp_path, embedded={"problems": {**sizes, "families": ["join", "packs"]}})
    done = run_script("prepare_data", "--study", write_study(tmp_path, content))
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "results" / "tiny" / "data").iterdir():
        assert {item.meta["family"] for item in read_items(path, allow_duplicates=True)} <= {"join", "packs"}, path


def test_solved_problems_of_ones_own_join_the_warm_start(tmp_path, folder):
    sizes = {"sft_items": 30, "drill_items": 0, "train_items": 5, "validation_items": 5, "test_items": 5}
    more = folder / "train.jsonl"
    content = study_content(tmp_path, embedded={"problems": {**sizes, "more_sft": [str(more)]}})
    done = run_script("prepare_data", "--study", write_study(tmp_path, content))
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results" / "tiny"
    rows = read_items(results / "data" / "sft.jsonl", allow_duplicates=True)
    given = [(item.question, item.solution) for item in rows if item.meta["family"] == "train"]
    assert given == [(item.question, item.solution) for item in read_items(more)]
    assert len(rows) == 30 + len(given)
    record = read_record(results / "records" / "prepare_data" / "data.json")
    assert record["inputs"]["more_sft.train.jsonl"]["sha256"] == file_sha256(more)


def test_a_test_item_in_the_warm_start_is_refused(tmp_path, folder):
    sizes = {"sft_items": 30, "drill_items": 0, "validation_items": 5}
    content = study_content(
        tmp_path, data={"source": str(folder), "prompt_template": "{question}"},
        embedded={"problems": {**sizes, "more_sft": [str(folder / "test.jsonl")]}},
    )  # fmt: skip
    done = run_script("prepare_data", "--study", write_study(tmp_path, content))
    assert done.returncode == 2
    assert "test question(s) also stand in sft" in done.stderr

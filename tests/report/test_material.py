"""Reading goes on whatever one file holds, and says what it was."""

from __future__ import annotations

import json

import pytest

from factories import study_content, write_all_records, write_study
from gainwatt.report.findings import differing, grouped
from gainwatt.report.material import Material
from gainwatt.report.page import answer_of
from gainwatt.study import Layout, load_study


@pytest.fixture
def study(tmp_path):
    found = load_study(write_study(tmp_path, study_content(tmp_path)))
    write_all_records(found, n=8)
    return found


def read(study):
    return Material.read(study, Layout.of(study), "study.yaml")


def test_all_that_is_there(study):
    found = read(study)
    assert {stage: len(records) for stage, records in found.records.items()} == {
        "diagnose_weights": 2, "evaluate_gsm8k": 4, "quantize": 2, "train_grpo": 1,
    }  # fmt: skip
    assert found.problems == []
    assert sorted(found.missing) == ["records/prepare_data/data.json", "records/warm_start/base.json"]
    assert all(len(record["sha256"]) == 64 and record["file"].startswith("records/") for record in found.all_records())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "truncated or not JSON"), ('{"kind": "other"}', "not a gainwatt record"), ("", "truncated or not JSON"),
        ('{"kind": "gainwatt-record", "schema_version": 99}', "schema version 99"),
    ],
)  # fmt: skip
def test_a_broken_record_is_named_and_left_out(study, content, word):
    path = Layout.of(study).record("evaluate_gsm8k", "base.fp32")
    path.write_text(content, "utf-8")
    found = read(study)
    assert len(found.records["evaluate_gsm8k"]) == 3
    (file, what), *others = found.problems
    assert (file, others) == ("records/evaluate_gsm8k/base.fp32.json", [])
    assert word in what
    assert str(path.parent) not in what
    assert file not in found.missing


def test_a_record_of_another_study_and_one_of_another_stage(study):
    layout = Layout.of(study)
    path = layout.record("evaluate_gsm8k", "base.fp32")
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | {"study": "another"}), "utf-8")
    layout.record("quantize", "base.bnb-nf4").write_text(json.dumps(record), "utf-8")
    found = dict(read(study).problems)
    assert found["records/evaluate_gsm8k/base.fp32.json"] == "it belongs to the study 'another'"
    assert "is of stage 'evaluate_gsm8k', not 'quantize'" in found["records/quantize/base.bnb-nf4.json"]


def test_records_of_other_settings_are_told(study, tmp_path):
    other = load_study(tmp_path / "study.yaml", ["evaluate.max_new_tokens=99"])
    assert {found.setting for found in read(other).stale} == {"evaluate.max_new_tokens"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"{", b'{"a": 1}'])
def test_an_index_of_figures_that_is_none(study, content):
    folder = Layout.of(study).figures
    folder.mkdir(parents=True)
    (folder / "index.json").write_bytes(content)
    assert read(study).figures == {}


def test_a_table_that_is_no_text(study):
    folder = Layout.of(study).tables
    folder.mkdir(parents=True)
    (folder / "gains.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    found = read(study)
    assert "gains" not in found.tables
    assert found.problems[0][0] == "tables/gains.csv"


def test_tables_of_other_records(study):
    found = read(study)
    assert differing(found) == []  # no table, nothing to compare
    from gainwatt.tables import accuracy
    from gainwatt.tables.results import Results
    from gainwatt.tables.write import write_csv

    rows = accuracy.accuracy_matrix(Results.load(study, Layout.of(study)))
    write_csv(Layout.of(study).tables / "accuracy_matrix.csv", rows)
    assert differing(read(study)) == []
    rows[0]["correct"] += 1
    write_csv(Layout.of(study).tables / "accuracy_matrix.csv", rows)
    assert differing(read(study)) == ["base.fp32"]


def test_findings_are_grouped_errors_first():
    rows = [
        {"severity": "warning", "check": "a", "file": "f", "what": "1", "hint": "h"},
        {"severity": "error", "check": "b", "file": "g", "what": "2", "hint": None},
        {"severity": "warning", "check": "a", "file": None, "what": "3", "hint": "h"},
    ]
    found = grouped(rows)
    assert [(group.severity, group.check, group.hint) for group in found] == [("error", "b", ""), ("warning", "a", "h")]
    assert found[1].entries == [("f", "1"), ("", "3")]


def test_tables_that_are_not_there_are_not_taken_for_cells_that_were_not_measured(study):
    found = answer_of(read(study))
    assert found.headline == "Not answered: the tables have not been made from the records (run make_tables)."

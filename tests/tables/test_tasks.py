"""Tasks of lm-eval: intervals, pairs by doc id, correction, and items that differ."""

from __future__ import annotations

import random

import pytest

from factories import base_record, study_content, write_evaluation, write_table
from gainwatt.errors import RecordError
from gainwatt.record import write_record
from gainwatt.stats.intervals import wilson
from gainwatt.stats.multiple import holm
from gainwatt.stats.paired import mcnemar_exact
from gainwatt.study import Cell, Layout, Study, evaluation_cells
from gainwatt.tables.results import Results
from gainwatt.tables.tasks import section, tasks

SHARE = {"fp32": 0.6, "bnb-nf4": 0.5}


@pytest.fixture
def study(tmp_path):
    made = Study.model_validate(study_content(tmp_path, tasks={"names": ["toy"]}))
    write_evaluation(made, Cell("base", "fp32"))
    return made


def right(cell, n=80):
    threshold = SHARE[cell.scheme] + (0.1 if cell.variant != "base" else 0)
    return [float(random.Random(f"doc {i}").random() < threshold) for i in range(n)]


def write(study, cell, *, prompt="p", shuffle=False, **changed):
    path = Layout.of(study).record("evaluate_tasks", cell.name)
    rows = [
        {
            "task": "toy", "filter": "none", "metric": metric, "doc_id": i, "doc_hash": f"d{i}", "prompt_hash": prompt,
            "value": value if metric == "acc" else value / 2 + 0.1, "target": "0", "response": "[]", "doc": "{}",
        }
        for i, value in enumerate(right(cell))
        for metric in ("acc", "f1")
    ]  # fmt: skip
    if shuffle:
        random.Random(1).shuffle(rows)
    record = base_record(study, "evaluate_tasks", {"variant": cell.variant, "scheme": cell.scheme})
    record["settings"]["lm_eval"] = {"version": "0.4.13", "tasks": {"toy": {"version": 1.0, "num_fewshot": 0}}}
    record["outputs"] = {"samples": write_table(path.with_suffix(".samples.parquet"), rows)}
    write_record(path, record | changed)


def rows_of(study):
    found = tasks(Results.load(study, Layout.of(study)))
    return {(row["metric"], row["variant"], row["precision"]): row for row in found}


def test_shares_have_wilson_intervals_and_exact_paired_tests(study):
    for cell in evaluation_cells(study):
        write(study, cell, shuffle=cell.scheme != "fp32")
    rows = rows_of(study)
    row = rows["acc", "base", "bnb-nf4"]
    before, after = right(Cell("base", "fp32")), right(Cell("base", "bnb-nf4"))
    improved = sum(a < b for a, b in zip(before, after, strict=True))
    worsened = sum(a > b for a, b in zip(before, after, strict=True))
    interval = wilson(int(sum(after)), 80)
    assert worsened > 0
    assert (row["items"], row["correct"], row["task_version"]) == (80, sum(after), 1.0)
    assert (row["value_low"], row["value_high"]) == (interval.low, interval.high)
    assert (row["improved_over_reference"], row["worsened_over_reference"]) == (improved, worsened)
    assert row["minus_reference"] == pytest.approx((improved - worsened) / 80)
    assert row["mcnemar_p_reference"] == mcnemar_exact(improved, worsened)
    assert row["mcnemar_p_base"] is None
    assert rows["acc", "grpo-s0", "fp32"]["minus_base"] > 0
    tested = [r["mcnemar_p_reference"] for r in rows.values() if r["mcnemar_p_reference"] is not None]
    adjusted = [r["mcnemar_p_holm_reference"] for r in rows.values() if r["mcnemar_p_reference"] is not None]
    assert adjusted == holm(tested)
    assert len(tested) == 2


def test_other_scores_have_a_bootstrap_interval_and_no_mcnemar(study):
    for cell in evaluation_cells(study):
        write(study, cell)
    row = rows_of(study)["f1", "base", "bnb-nf4"]
    assert row["correct"] is None
    assert row["value_low"] < row["value"] < row["value_high"]
    assert row["mcnemar_p_reference"] is None


def test_the_summary_shows_what_was_measured(study):
    write(study, Cell("base", "fp32"))
    write(study, Cell("base", "bnb-nf4"))
    found = tasks(Results.load(study, Layout.of(study)))
    text = section(found)
    row = next(row for row in found if row["precision"] == "bnb-nf4" and row["metric"] == "acc")
    assert text.count("| toy | acc |") == 2
    assert f"| {100 * row['minus_reference']:+.1f} [" in text
    assert section([]) == ""


def test_other_prompts_are_not_paired(study):
    write(study, Cell("base", "fp32"))
    write(study, Cell("base", "bnb-nf4"), prompt="q")
    with pytest.raises(RecordError, match=r"base\.fp32 and base\.bnb-nf4 were not asked the same items of toy"):
        rows_of(study)


def test_missing_and_failed_cells(study):
    write(study, Cell("base", "fp32"))
    write(
        study,
        Cell("base", "bnb-nf4"),
        status="unavailable",
        reason="no lm-eval",
        outputs={},
        settings=study.settings("evaluate_tasks"),
    )
    rows = rows_of(study)
    assert rows["acc", "base", "bnb-nf4"]["reason"] == "no lm-eval"
    assert rows["acc", "grpo-s0", "fp32"]["status"] == "missing"
    assert rows["acc", "base", "bnb-nf4"]["value"] is None


def test_no_score_at_all_still_says_why(study):
    write(study, Cell("base", "fp32"), status="unavailable", reason="no lm-eval", outputs={})
    found = tasks(Results.load(study, Layout.of(study)))
    assert [row["status"] for row in found] == ["unavailable", "missing", "missing", "missing"]


def test_a_study_without_the_section_has_no_rows(tmp_path):
    made = Study.model_validate(study_content(tmp_path / "other"))
    write_evaluation(made, Cell("base", "fp32"))
    assert tasks(Results.load(made, Layout.of(made))) == []

"""Perplexities by hand, paired differences, blocks, and comparisons that are refused by name."""

from __future__ import annotations

import math

import pytest

from factories import base_record, study_content, write_evaluation, write_table
from gainwatt.errors import RecordError
from gainwatt.record import read_record, write_record
from gainwatt.study import Cell, Layout, Study, evaluation_cells
from gainwatt.tables.perplexity import perplexities, section
from gainwatt.tables.results import Results

LOSS = {"fp32": 2.0, "bnb-nf4": 2.1, "awq-w4g128": 2.05}


def measured(folder, **perplexity):
    """A study, and a function that writes one cell's record: `loss` nats per token over `windows` windows."""
    section = {"corpus": "data:test", "window": 64, "stride": 32} | perplexity
    study = Study.model_validate(study_content(folder, perplexity=section))
    write_evaluation(study, Cell("base", "fp32"))
    return study


def write(study, cell, *, windows=60, documents=1, tokens=512, wobble=0.1, corpus="c" * 64, ids="t" * 64, **changed):
    path = Layout.of(study).record("evaluate_perplexity", cell.name)
    level = LOSS[cell.scheme] + (0.3 if cell.variant != "base" else 0.0)
    rows = [
        {
            "index": i, "document": i * documents // windows, "begin": 0, "first_scored": 1, "end": tokens + 1,
            "tokens": tokens, "nll_sum": tokens * (level + wobble * math.sin(i)),
        }
        for i in range(windows)
    ]  # fmt: skip
    total = sum(row["nll_sum"] for row in rows) / (windows * tokens)
    metrics = {
        "tokens_scored": windows * tokens, "nll_per_token": total, "perplexity": math.exp(total), "bits_per_byte": 0.7,
        "word_perplexity": 9.0, "windows": windows, "documents": documents,
    }  # fmt: skip
    record = base_record(
        study, "evaluate_perplexity", {"variant": cell.variant, "scheme": cell.scheme}, metrics=metrics
    )
    record["outputs"] = {"windows": write_table(path.with_suffix(".windows.parquet"), rows)}
    record["inputs"] |= {"corpus": {"sha256": corpus}, "tokens": {"sha256": ids}}
    write_record(path, record | changed)


def rows_of(study):
    return {(row["variant"], row["precision"]): row for row in perplexities(Results.load(study, Layout.of(study)))}


def test_estimates_and_paired_differences(tmp_path):
    study = measured(tmp_path)
    for cell in evaluation_cells(study):
        write(study, cell)
    rows = rows_of(study)
    assert len(rows) == len(evaluation_cells(study))
    row = rows["base", "bnb-nf4"]
    assert row["perplexity"] == pytest.approx(math.exp(row["nll_per_token"]))
    assert row["perplexity_low"] < row["perplexity"] < row["perplexity_high"]
    assert row["nll_minus_reference"] == pytest.approx(0.1)
    assert row["nll_minus_reference_low"] == pytest.approx(0.1)  # the same wobble in both: paired, it cancels
    assert row["perplexity_over_reference"] == pytest.approx(math.exp(0.1))
    assert row["nll_minus_base"] is None
    assert rows["grpo-s0", "fp32"]["nll_minus_base"] == pytest.approx(0.3)
    assert rows["grpo-s0", "fp32"]["nll_minus_reference"] is None
    assert rows["grpo-s0", "bnb-nf4"]["nll_minus_reference"] == pytest.approx(0.1)


def test_the_summary_shows_what_was_measured(tmp_path):
    study = measured(tmp_path)
    write(study, Cell("base", "fp32"))
    write(study, Cell("base", "bnb-nf4"))
    text = section(perplexities(Results.load(study, Layout.of(study))))
    assert text.count("| base |") == 2
    assert "On data:test: 30720 tokens, window 64, stride 32" in text
    assert "| 1.105 | [0.1, 0.1] |" in text
    assert section([]) == ""


@pytest.mark.parametrize(("documents", "blocks"), [(1, 15), (2, 16), (29, 29), (30, 30), (60, 60)])
def test_blocks_are_documents_or_runs_of_windows(tmp_path, documents, blocks):
    """60 windows of 512 tokens: runs of four hold 2,048 tokens; with 30 documents or more each is a block."""
    study = measured(tmp_path)
    write(study, Cell("base", "fp32"), documents=documents)
    assert rows_of(study)["base", "fp32"]["blocks"] == blocks


def test_missing_and_failed_cells(tmp_path):
    study = measured(tmp_path)
    write(study, Cell("base", "fp32"))
    write(study, Cell("base", "bnb-nf4"), status="oom", reason="CUDA out of memory", metrics={}, outputs={})
    rows = rows_of(study)
    assert (rows["base", "bnb-nf4"]["status"], rows["base", "bnb-nf4"]["perplexity"]) == ("oom", None)
    assert rows["grpo-s0", "fp32"]["status"] == "missing"


def test_one_window_has_no_interval(tmp_path):
    study = measured(tmp_path)
    write(study, Cell("base", "fp32"), windows=1)
    row = rows_of(study)["base", "fp32"]
    assert row["perplexity"] > 1
    assert row["perplexity_low"] is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"corpus": "d" * 64}, r"base\.fp32 and base\.bnb-nf4 cannot be compared: the corpus"),
        ({"ids": "u" * 64}, "the tokenizer's reading of it"),
    ],
)
def test_other_texts_are_not_compared(tmp_path, changed, said):
    study = measured(tmp_path)
    write(study, Cell("base", "fp32"))
    write(study, Cell("base", "bnb-nf4"), **changed)
    with pytest.raises(RecordError, match=said):
        rows_of(study)


def test_other_windows_are_not_compared_even_where_stale_records_are_allowed(tmp_path):
    study, other = measured(tmp_path), measured(tmp_path, window=128)
    write(study, Cell("base", "fp32"))
    write(other, Cell("base", "bnb-nf4"))
    with pytest.raises(RecordError, match=r"perplexity\.window was 128"):
        rows_of(study)
    results = Results.load(study, Layout.of(study), allow_stale=True)
    with pytest.raises(RecordError, match=r"window is 64 in .*base\.fp32\.json and 128 in .*base\.bnb-nf4\.json"):
        perplexities(results)


def test_a_study_without_the_section_has_no_rows(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    write_evaluation(study, Cell("base", "fp32"))
    assert perplexities(Results.load(study, Layout.of(study))) == []
    assert read_record(Layout.of(study).record("evaluate_gsm8k", "base.fp32"))["status"] == "ok"

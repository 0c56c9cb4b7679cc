"""The published inference table: its rows and columns as published, ours of the same precision below each."""

from __future__ import annotations

import pytest

from factories import study_content, write_study
from gainwatt.study import load_study
from gainwatt.tables import published
from gainwatt.tables.results import Results

COLUMNS = ["Precision", "Model Size (MB)", "Mean Latency (ms)", "Tokens/sec", "WikiPPL", "GSM8K"]


# Texts and items that the published columns are named after.
NAMED = {
    "data": {"source": "hub:openai/gsm8k", "revision": "e53f048856ff4f594e959d75785d2c2d37b678ee", "config": "main"},
    "perplexity": {"corpus": "hub:Salesforce/wikitext", "revision": "b08601e04326c79dfdd32d625aee71d232d685c3"},
}


def measured(precision, *, batch=1, variant="base", accuracy=0.25):
    return {
        "model_name": "embedded", "precision": precision, "batch_size": batch, "input_length": 32,
        "mean_latency_ms": 100.0, "tokens_per_second": 320.0, "vram_mb": 12.5, "perplexity": 9.0,
        "gsm8k_accuracy": accuracy, "variant": variant, "new_tokens": 32, "status": "ok",
    }  # fmt: skip


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Call with profiled rows for the table."""

    def table(found, **sections):
        study = load_study(write_study(tmp_path, study_content(tmp_path, **{"published": "powerbench"} | sections)))
        monkeypatch.setattr(published, "inference_benchmark", lambda results: found)
        return published.inference(Results(study, tmp_path))

    return table


def test_each_published_row_is_followed_by_ours(rows):
    ours = [measured(name) for name in ("fp16", "bnb-int8", "bnb-nf4", "bnb-nf4-single")]
    found = rows(ours, **NAMED)
    assert list(found[0])[2:8] == COLUMNS
    assert [(row["Precision"], row["scheme"]) for row in found] == [
        ("FP16", None), ("FP16", "fp16"), ("INT8", None), ("INT8", "bnb-int8"), ("INT4", None),
        ("INT4", "bnb-nf4-single"),
    ]  # fmt: skip
    assert [row["Mean Latency (ms)"] for row in found[::2]] == [3061.5, 9642.51, 3403.6]
    assert found[1]["Model Size (MB)"] == 12.5
    assert (found[1]["WikiPPL"], found[1]["GSM8K"]) == (9.0, "25.0%")


def test_scores_of_other_texts_do_not_stand_under_the_published_names(rows):
    found = rows([measured("fp16")], perplexity={"corpus": "data:validation"})
    assert (found[1]["WikiPPL"], found[1]["GSM8K"]) == (None, None)
    assert "null where the study uses its own text or generated problems" in found[1]["note"]
    assert (found[0]["WikiPPL"], found[0]["GSM8K"]) == (19.89, "6.0%")


def test_the_nearest_scheme_stands_in_and_says_its_name(rows):
    profile = {"baseline": "fp32", "schemes": ["bnb-nf4"]}
    found = rows([measured("fp32"), measured("bnb-nf4", accuracy=None)], profile=profile, **NAMED)
    ours = [row for row in found if row["source"] == "measured"]
    assert [(row["Precision"], row["scheme"], row["GSM8K"]) for row in ours] == [
        ("FP32", "fp32", "25.0%"), ("INT4", "bnb-nf4", None),
    ]  # fmt: skip


def test_other_loads_and_variants_are_left_out(rows):
    found = rows([measured("fp16", batch=8), measured("fp16", variant="grpo-s0")])
    assert [row["source"].partition(" ")[0] for row in found] == ["published"] * 3
    assert published.section(Results.__new__(Results), {"published_inference": found}) == ""


def test_a_study_that_names_no_published_numbers_has_no_such_table(rows):
    assert rows([measured("fp16")], published=None) == []

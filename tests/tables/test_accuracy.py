"""The matrix, paired differences and survival, recomputed from the items."""

from __future__ import annotations

import pytest

from factories import correct_items, write_evaluation
from gainwatt.stats.intervals import wilson
from gainwatt.stats.multiple import holm
from gainwatt.stats.paired import mcnemar_exact
from gainwatt.study import Cell
from gainwatt.tables import accuracy
from gainwatt.tables.results import Results

COLUMNS = [
    "variant",
    "precision",
    "label",
    "num_examples",
    "accuracy",
    "accuracy_stderr",
    "correct",
    "parse_rate",
    "prompt_leak_rate",
    "completion_chars_mean",
    "completion_tokens_mean",
    "hit_max_new_tokens_rate",
    "ended_with_eos_rate",
    "reference_nll_per_token",
    "reference_ppl",
    "reference_ppl_token_count",
    "model",
    "predictions_path",
]


def test_published_column_order(results):
    row = accuracy.accuracy_matrix(results)[0]
    assert list(row)[: len(COLUMNS)] == COLUMNS
    assert list(row)[len(COLUMNS) : len(COLUMNS) + 2] == ["accuracy_low", "accuracy_high"]


def test_matrix_values(results):
    rows = accuracy.accuracy_matrix(results)
    assert [row["label"] for row in rows][:4] == ["base.fp32", "base.bnb-nf4", "base.awq-w4g128", "grpo-s0.fp32"]
    row = rows[0]
    correct = sum(correct_items(Cell("base", "fp32"), 40))
    assert (row["num_examples"], row["correct"]) == (40, correct)
    assert row["accuracy"] == correct / 40
    assert row["accuracy_stderr"] == pytest.approx((row["accuracy"] * (1 - row["accuracy"]) / 40) ** 0.5)
    interval = wilson(correct, 40, 0.95)
    assert (row["accuracy_low"], row["accuracy_high"]) == (interval.low, interval.high)
    assert row["model"] == results.evaluations[Cell("base", "fp32")]["inputs"]["checkpoint"]["sha256"]
    assert row["predictions_path"] == "base.fp32.items.parquet"
    assert row["status"] == "ok"


def test_missing_and_failed_cells_are_shown(study, layout):
    write_evaluation(study, Cell("base", "fp32"))
    write_evaluation(study, Cell("base", "bnb-nf4"), status="oom", reason="CUDA out of memory", metrics={}, outputs={})
    rows = {row["label"]: row for row in accuracy.accuracy_matrix(Results.load(study, layout))}
    assert len(rows) == 9
    assert rows["base.bnb-nf4"]["status"] == "oom"
    assert rows["base.bnb-nf4"]["reason"] == "CUDA out of memory"
    assert rows["grpo-s1.fp32"]["status"] == "missing"
    assert rows["grpo-s1.fp32"]["accuracy"] is rows["base.bnb-nf4"]["accuracy"] is None


@pytest.mark.parametrize(
    ("effective", "events", "shown"),
    [
        (
            {"batch_size": 64, "batch_size_final": 16},
            ["halved to 32", "halved to 16"],
            (16, "halved to 32; halved to 16"),
        ),
        ({"batch_size": None, "batch_size_final": None, "max_num_seqs": 256}, [], (256, None)),
        ({"batch_size": 8}, [], (8, None)),
    ],
)
def test_the_batch_size_at_the_end_and_what_happened_are_shown(study, layout, effective, events, shown):
    settings = study.settings("evaluate_gsm8k") | {"effective": effective, "events": events}
    write_evaluation(study, Cell("base", "fp32"), settings=settings)
    row = accuracy.accuracy_matrix(Results.load(study, layout))[0]
    assert (row["batch_size"], row["events"]) == shown
    assert row["engine"] == "transformers"


def test_paired_effects_count_the_items(results):
    rows = accuracy.paired_effects(results)
    assert len(rows) == 3 * 2
    row = rows[0]
    before, after = (correct_items(Cell("base", scheme), 40) for scheme in ("fp32", "bnb-nf4"))
    improved = sum(b < a for b, a in zip(before, after, strict=True))
    worsened = sum(b > a for b, a in zip(before, after, strict=True))
    assert (row["from"], row["to"]) == ("base.fp32", "base.bnb-nf4")
    assert (row["improved"], row["worsened"], row["unchanged"]) == (improved, worsened, 40 - improved - worsened)
    assert row["difference"] == pytest.approx((improved - worsened) / 40)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["mcnemar_p"] == mcnemar_exact(improved, worsened)


@pytest.mark.parametrize("table", [accuracy.paired_effects, accuracy.gains])
def test_p_values_are_corrected_over_the_table(results, table):
    rows = table(results)
    assert [row["mcnemar_p_holm"] for row in rows] == holm([row["mcnemar_p"] for row in rows])
    assert all(row["mcnemar_p_holm"] >= row["mcnemar_p"] for row in rows)


def test_gains_are_per_scheme_and_seed(results):
    rows = accuracy.gains(results)
    assert len(rows) == 3 * 2
    assert (rows[1]["from"], rows[1]["to"]) == ("base.fp32", "grpo-s1.fp32")
    assert all(row["difference"] > 0 for row in rows)


def test_survival_of_all_seeds_and_of_each(results):
    rows = accuracy.survivals(results)
    assert [(row["scheme"], row["variants"]) for row in rows] == [
        (scheme, group) for scheme in ("bnb-nf4", "awq-w4g128") for group in ("grpo-s0+grpo-s1", "grpo-s0", "grpo-s1")
    ]
    whole, first, second = rows[:3]
    assert (whole["training_seeds"], first["training_seeds"], whole["items"]) == (2, 1, 40)
    assert whole["gain_survival"] == pytest.approx((first["gain_survival"] + second["gain_survival"]) / 2)
    for row in rows:
        assert row["gain_survival"] == pytest.approx(row["delta_quantized"] - row["delta_reference"])
        assert row["gain_survival_low"] <= row["gain_survival"] <= row["gain_survival_high"]
        assert row["verdict"] in ("survives", "reduced", "erased", "undecided")
        assert row["margin"] == 0.02
        assert row["delta_reference_low"] <= row["delta_reference"] <= row["delta_reference_high"]
        assert row["delta_quantized_low"] <= row["delta_quantized"] <= row["delta_quantized_high"]
        assert 1 <= row["items_needed_gain_paired"] <= row["items_needed_gain_unpaired"]
        assert row["items_needed_survival"] or "survival" in row["items_needed_null_reason"]
    assert first["stderr_training_seeds"] is None
    assert [row["p_value_holm"] for row in rows] == holm([row["p_value"] for row in rows])


def test_one_seed_has_one_row_and_incomplete_schemes_none(study, layout):
    for variant in ("base", "grpo-s0"):
        for scheme in ("fp32", "bnb-nf4"):
            write_evaluation(study, Cell(variant, scheme))
    write_evaluation(study, Cell("grpo-s0", "awq-w4g128"))
    rows = accuracy.survivals(Results.load(study, layout))
    assert [(row["scheme"], row["variants"]) for row in rows] == [("bnb-nf4", "grpo-s0")]


def test_changed_items_are_exactly_the_discordant_ones(results):
    rows = accuracy.changed_items(results)
    effects = accuracy.paired_effects(results)
    assert len(rows) == sum(row["improved"] + row["worsened"] for row in effects)
    for row in rows:
        cells = (Cell(row["variant"], "fp32"), Cell(row["variant"], row["quant_precision"]))
        before, after = (correct_items(cell, 40)[row["index"]] for cell in cells)
        assert (row["reference_correct"], row["quant_correct"]) == (before, after)
        assert row["quant_change"] == ("improved" if after else "worsened")
        assert row["target_answer"] == str(row["index"] + 2)

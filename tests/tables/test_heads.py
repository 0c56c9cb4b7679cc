"""Tables, figures and the summary's section of attention heads, from synthetic records."""

from __future__ import annotations

import pytest

from factories import study_content, write_all_records
from gainwatt.figures import head_pruning as pruning_figure
from gainwatt.figures import heads as head_figures
from gainwatt.figures.describe_heads import HEAD_TEXTS
from gainwatt.record import write_record
from gainwatt.study import Cell, Layout, Study
from gainwatt.tables.head_changes import comparisons, head_agreement, head_changes
from gainwatt.tables.head_pruning import head_pruning
from gainwatt.tables.heads import head_cells, head_scores, section
from gainwatt.tables.results import Results
from gainwatt.tables.write import columns_of
from heads.records import DIFFERENT, HEADS, PLACES, write_pruning, write_scores

BASE, TRAINED, QUANTIZED = Cell("base", "fp32"), Cell("grpo-s0", "fp32"), Cell("base", "bnb-nf4")


@pytest.fixture
def study(tmp_path):
    prune = {"percents": [25, 50], "random_draws": 2}
    return Study.model_validate(study_content(tmp_path, heads={"schemes": ["bnb-nf4"], "prune": prune}))


@pytest.fixture
def results(study):
    write_all_records(study)
    write_scores(study, BASE)
    write_scores(study, TRAINED, shift=1.0, dw=0.01)
    write_scores(study, QUANTIZED)
    for variant in ("base", "grpo-s0"):
        write_pruning(study, variant)
    return Results.load(study, Layout.of(study))


def test_a_row_for_each_head_in_the_published_order(results):
    rows = head_scores(results)
    assert columns_of(rows)[:5] == [
        "layer_idx", "head_idx", "tv_distance", "mean_activation_reasoning", "mean_activation_general",
    ]  # fmt: skip
    base = [row for row in rows if (row["variant"], row["scheme"]) == ("base", "fp32")]
    assert len(rows) == 3 * len(PLACES)
    assert [row["tv_distance"] for row in base] == sorted((row["tv_distance"] for row in base), reverse=True)
    first = base[0]
    assert (first["layer_idx"], first["head_idx"]) == (DIFFERENT // HEADS, DIFFERENT % HEADS)
    assert first["above_null"]
    assert first["tv_distance_low"] < first["tv_crossfit"] < first["tv_distance"] <= first["tv_distance_high"] <= 1
    assert all(0 <= row["tv_distance_low"] <= row["tv_distance"] for row in base)
    assert sum(row["above_null"] for row in base) == 1
    assert not any(row["above_null_matched"] for row in base)
    assert {row["dw_relative"] for row in base} == {None}


def test_cells(results):
    rows = {f"{row['variant']}.{row['scheme']}": row for row in head_cells(results)}
    assert list(rows) == ["base.fp32", "base.bnb-nf4", "grpo-s0.fp32", "grpo-s0.bnb-nf4"]
    assert rows["grpo-s0.bnb-nf4"]["status"] == "missing"
    assert rows["grpo-s0.bnb-nf4"]["heads"] is None
    base = rows["base.fp32"]
    assert base["top_heads"].startswith(f"L{DIFFERENT // HEADS}H{DIFFERENT % HEADS} ")
    assert base["bottom_heads"].count(";") == 9
    assert base["depth_spearman_low"] <= base["depth_spearman"] <= base["depth_spearman_high"]
    assert base["null_reason"] == "no meter on this machine"
    text = section(results, {"heads": head_cells(results)})
    assert "| base.fp32 | 12 | 1 | 0 | 0 |" in text
    assert section(results, {"heads": []}) == ""


def test_which_heads_moved(results):
    assert [(a.name, b.name) for a, b in comparisons(results)] == [
        ("base.fp32", "grpo-s0.fp32"), ("base.fp32", "base.bnb-nf4"), ("grpo-s0.fp32", "grpo-s0.bnb-nf4"),
    ]  # fmt: skip
    rows = [row for row in head_changes(results) if row["to"] == "grpo-s0.fp32"]
    first = rows[0]
    assert (first["layer_idx"], first["head_idx"]) == (DIFFERENT // HEADS, DIFFERENT % HEADS)
    assert first["tv_change"] < 0
    assert first["tv_change_high"] < 0
    assert first["moved"]
    assert all(row["tv_change"] == 0 and row["p_value"] == 1 for row in rows[1:])
    assert first["dw_relative"] == pytest.approx(0.01 * (1 + DIFFERENT))
    same = [row for row in head_changes(results) if row["to"] == "base.bnb-nf4"]
    assert {row["tv_change"] for row in same} == {0}
    trained, quantized, missing = head_agreement(results)
    assert trained["heads_moved"] == 1
    assert trained["tv_spearman_low"] <= trained["tv_spearman"] <= trained["tv_spearman_high"] <= 1
    assert trained["change_dw_spearman"] is not None
    assert quantized["tv_spearman"] == pytest.approx(1)
    assert quantized["change_dw_spearman"] is None
    assert missing["null_reason"] == "one of the two has no scores"


def test_other_prompts_are_not_compared(study, results):
    record = dict(results.branches["score_heads"]["grpo-s0.fp32"])
    record["inputs"] = record["inputs"] | {"prompts_general": {"sha256": "x" * 64}}
    write_record(record.pop("path"), record)
    again = Results.load(study, Layout.of(study))
    assert not [row for row in head_changes(again) if row["to"] == "grpo-s0.fp32"]
    assert head_agreement(again)[0]["null_reason"] == "they were scored on different prompts general"


def test_the_pruning_curve(results):
    rows = [row for row in head_pruning(results) if row["variant"] == "base"]
    assert [(row["strategy"], row["percent"], row["draw"]) for row in rows] == [
        ("none", 0, None), ("tv", 25, None), ("random", 25, None), ("random", 25, 0), ("random", 25, 1),
        ("magnitude", 25, None), ("tv", 50, None), ("random", 50, None), ("random", 50, 0), ("random", 50, 1),
        ("magnitude", 50, None),
    ]  # fmt: skip
    none, tv = rows[0], rows[6]
    assert none["n_pruned_heads"] == 0
    assert (none["difference"], none["nll_minus_none"], none["mcnemar_p"]) == (None, None, None)
    # 30 of 40 unpruned; at 50 %: 4 less for tv, 10 and 11 for the two draws.
    assert (none["accuracy"], tv["accuracy"]) == (0.75, 0.65)
    assert tv["difference"] == pytest.approx(-0.1)
    assert (tv["improved"], tv["worsened"]) == (0, 4)
    assert tv["mcnemar_p_holm"] >= tv["mcnemar_p"] == pytest.approx(0.125)
    assert tv["accuracy_minus_random"] == pytest.approx((6 + 7) / 2 / 40)
    assert tv["accuracy_minus_random_low"] < tv["accuracy_minus_random"] < tv["accuracy_minus_random_high"]
    assert tv["nll_minus_none"] == pytest.approx(0.04)
    assert tv["nll_minus_random"] == pytest.approx(0.04 - 0.105)
    mean = rows[7]
    assert mean["accuracy"] == pytest.approx((20 + 19) / 2 / 40)
    assert mean["difference_low"] < mean["difference"] < mean["difference_high"] < 0
    assert mean["nll_minus_none"] == pytest.approx(0.105)
    assert tv["gross_j_per_item"] == pytest.approx(5.0)
    assert tv["gross_j_per_item_low"] == pytest.approx(5.0)  # every answer has the same length
    assert tv["gross_j_per_correct"] == pytest.approx(200 / 26)


def test_joules_of_points_of_a_killed_process_are_null(study, results):
    write_pruning(study, "base", resumed=("tv-25",))
    rows = head_pruning(Results.load(study, Layout.of(study)))
    tv = next(row for row in rows if row["strategy"] == "tv" and row["percent"] == 25)
    assert tv["gross_j_per_item"] is None
    assert tv["null_reason"] == "measured before the run was interrupted"


def test_out_of_memory_is_a_row(study, results):
    write_scores(study, TRAINED, status="oom", reason="CUDA out of memory", metrics={}, outputs={})
    again = Results.load(study, Layout.of(study))
    row = next(row for row in head_cells(again) if row["variant"] == "grpo-s0")
    assert (row["status"], row["reason"], row["heads"]) == ("oom", "CUDA out of memory", None)


def test_figures(results):
    figures = {
        "head_map": head_figures.head_map(results), "head_null": head_figures.head_null(results),
        "head_pruning": pruning_figure.pruning_curve(results),
    }  # fmt: skip
    assert len(figures["head_map"].axes) == 2 * 3 + 1
    assert len(figures["head_null"].axes) == 3
    assert len(figures["head_pruning"].axes) == 2 * 3
    assert "gross joules" in figures["head_pruning"].axes[2].get_ylabel()
    for name, figure in figures.items():
        text = HEAD_TEXTS[name](results)
        assert figure is not None
        assert all(text[key] for key in ("title", "caption", "alt"))


def test_a_study_without_heads_has_no_rows_and_no_figures(tmp_path):
    plain = Study.model_validate(study_content(tmp_path / "plain"))
    write_all_records(plain)
    results = Results.load(plain, Layout.of(plain))
    assert head_scores(results) == head_cells(results) == head_changes(results) == head_agreement(results) == []
    assert head_pruning(results) == []
    drawn = (head_figures.head_map(results), head_figures.head_null(results), pruning_figure.pruning_curve(results))
    assert drawn == (None, None, None)

"""Tables of the training profile from synthetic records: own columns, published rows and columns, ratios."""

from __future__ import annotations

import csv
import io

import pytest

from factories import study_content, write_study
from gainwatt.published import published
from gainwatt.study import Layout, load_study
from gainwatt.tables import train_profile
from gainwatt.tables.results import Results
from gainwatt.tables.write import to_csv
from train_profiles import SLOWER, write_profile

PUBLISHED = ("Mean rollout time", "Rollouts/minute", "Peak VRAM", "Mean power draw", "OOM count", "Long-tail frequency")


@pytest.fixture
def study(tmp_path):
    section = {"bases": ["bnb-nf4", "fp16"], "steps": 12, "warmup_steps": 1}
    content = study_content(tmp_path, matrix=False, published="powerbench", train_profile=section)
    return load_study(write_study(tmp_path, content))


@pytest.fixture
def results(study):
    for weights in study.train_profile.bases:
        write_profile(study, weights)
    return Results.load(study, Layout.of(study))


def test_one_row_for_each_type_of_the_base(results):
    rows = train_profile.train_profile(results)
    assert [row["scheme"] for row in rows] == ["bnb-nf4", "fp16"]
    for row in rows:
        assert (row["steps_ok"], row["oom_count"], row["status"]) == (12, 0, "ok")
        assert row["rollout_s_mean_low"] < row["rollout_s_mean"] < row["rollout_s_mean_high"]
        assert row["rollout_s_p50"] <= row["rollout_s_p95"]
        assert row["gross_j_per_step"] == pytest.approx(40 * row["step_s_mean"])
        assert row["net_j_per_rollout"] == pytest.approx(0.75 * row["gross_j_per_rollout"])
        assert 0 < row["long_tail_rate"] < 1
        assert row["long_tail_padded_rate"] >= row["long_tail_rate"]
        assert row["peak_allocated_update_mib"] == 1100.0


def test_what_holding_the_board_costs_is_told_apart(results):
    for record in train_profile.records(results).values():
        record["energy"]["devices"] = [{"idle_before_w": 10.0, "idle_after_w": 30.0}]
    for row in train_profile.train_profile(results):
        assert row["above_loaded_idle_j_per_step"] == pytest.approx(10 * row["step_s_mean"])
        assert row["above_loaded_idle_null_reason"] is None
    for record in train_profile.records(results).values():
        record["energy"]["devices"] = []
    for row in train_profile.train_profile(results):
        assert row["above_loaded_idle_j_per_step"] is None
        assert row["above_loaded_idle_null_reason"] == "idle power after the work was not measured"


def test_the_published_rows_stand_in_their_order_beside_ours(results):
    rows = train_profile.beside_published(results)
    assert [row["metric"].partition(" (")[0] for row in rows[::2]] == list(PUBLISHED)
    first = rows[0]
    assert (first["published"], first["unit"], first["scheme"]) == (107417.0, "ms", "bnb-nf4")
    assert first["measured"] == pytest.approx(1000 * train_profile.train_profile(results)[0]["rollout_s_mean"])
    tail = rows[-2]
    assert (tail["published"], tail["measured_low"] < tail["measured"] < tail["measured_high"]) == (1.0, True)
    assert "with it ours is" in tail["note"]
    assert all("powerbench" in row["source"] for row in rows)


def test_no_published_numbers_where_the_study_names_none(results):
    results.study = results.study.model_copy(update={"published": None})
    assert train_profile.beside_published(results) == []


def test_the_published_columns_step_by_step(results):
    rows = train_profile.steps(results)
    header = next(csv.reader(io.StringIO(to_csv(rows))))
    assert header[1:10] == [
        "step", "rollout_time_ms", "backward_time_ms", "total_step_time_ms", "peak_vram_rollout_mb",
        "peak_vram_backward_mb", "n_long_tail", "mean_output_tokens", "oom",
    ]  # fmt: skip
    assert len(rows) == 2 * 13
    for row in rows:
        assert row["rollout_time_ms"] + row["backward_time_ms"] <= row["total_step_time_ms"]
        assert (row["peak_vram_rollout_mb"], row["peak_vram_backward_mb"]) == (900.0, 1200.0)


def test_ratios_are_of_steps_in_pairs(results):
    rows = {row["quantity"]: row for row in train_profile.ratios(results)}
    assert set(rows) == {"rollout_s", "update_s", "step_s", "gross_j_step", "net_j_step"}
    for row in rows.values():
        assert (row["scheme"], row["baseline"], row["steps"]) == ("bnb-nf4", "fp16", 12)
        assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
        assert row["ratio"] == pytest.approx(SLOWER["bnb-nf4"], rel=0.2)


def test_joules_that_are_not_known_are_null_with_the_reason(study):
    for weights in study.train_profile.bases:
        write_profile(study, weights, metered=False)
    results = Results.load(study, Layout.of(study))
    assert train_profile.train_profile(results)[0]["gross_j_per_step"] is None
    row = next(row for row in train_profile.ratios(results) if row["quantity"] == "gross_j_step")
    assert (row["ratio"], row["null_reason"]) == (None, "no meter on this machine")
    power = next(row for row in train_profile.beside_published(results) if row["metric"] == "Mean power draw")
    assert (power["measured"], power["null_reason"]) == (None, "no meter on this machine")


def test_the_summary_holds_the_steps_and_the_published_rows(results):
    tables = {
        "train_profile": train_profile.train_profile(results),
        "train_profile_published": train_profile.beside_published(results),
    }
    text = train_profile.section(results, tables)
    assert "| bnb-nf4 | 12 |" in text
    assert "Long-tail frequency" in text
    assert train_profile.section(results, {}) == ""


def test_published_numbers_are_cited_as_published():
    found = published("powerbench")
    assert [row["Precision"] for row in found.rows("inference")] == ["FP16", "INT8", "INT4"]
    assert found.columns("inference")[1] == "Model Size (MB)"
    assert found.rows("training")[0] == {"Metric": "Mean rollout time", "Value": 107417.0}
    with pytest.raises(Exception, match="there are: powerbench"):
        published("nobody")

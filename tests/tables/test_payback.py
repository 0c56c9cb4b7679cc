"""When training pays back, by hand; and the reasons where it does not or cannot be told."""

from __future__ import annotations

import pytest

from factories import correct_items, energy_of, write_all_records
from gainwatt.record import read_record, write_record
from gainwatt.study import Cell
from gainwatt.tables.payback import payback
from gainwatt.tables.results import Results


def rows_of(study, layout):
    found = payback(Results.load(study, layout))
    return {(row["variant"], row["scheme"], row["quantity"]): row for row in found}


def change(path, **changed):
    record = read_record(path)
    record.update(changed)
    write_record(path, {key: value for key, value in record.items() if key not in ("kind", "schema_version")})


@pytest.fixture
def rows(study, layout):
    write_all_records(study)
    metrics = read_record(layout.record("train_grpo", "grpo-s0"))["metrics"] | {"resumed_from_step": 0}
    for variant in ("grpo-s0", "grpo-s1"):
        change(layout.record("train_grpo", variant), metrics=metrics)
    return rows_of(study, layout)


def test_joules_by_hand(rows):
    """The generations cost 1,250 J each; the training 3,600 J."""
    row = rows["grpo-s0", "fp32", "gross_j"]
    before, after = (sum(correct_items(Cell(name, "fp32"), 40)) for name in ("base", "grpo-s0"))
    assert row["training"] == 3600
    assert row["per_correct_base"] == pytest.approx(1250 / before)
    assert row["saved_per_correct"] == pytest.approx(1250 / before - 1250 / after)
    assert row["payback_correct_answers"] == pytest.approx(3600 / (1250 / before - 1250 / after))
    assert row["payback_low"] < row["payback_correct_answers"]
    assert row["saved_low"] < row["saved_per_correct"] < row["saved_high"]
    assert row["payback_low"] == pytest.approx(3600 / row["saved_high"])
    assert rows["grpo-s0", "fp32", "net_j"]["training"] == 1800
    assert rows["grpo-s0", "fp32", "s"]["training"] == 36


def test_every_variant_scheme_and_quantity_once(rows):
    assert len(rows) == 2 * 3 * 3


def test_a_resumed_training_without_its_earlier_joules_is_null(study, layout):
    write_all_records(study)  # their trainings went on from step 3
    row = rows_of(study, layout)["grpo-s0", "fp32", "gross_j"]
    assert row["training"] is row["payback_correct_answers"] is None
    assert "went on from step 3" in row["null_reason"]
    assert row["saved_per_correct"] > 0
    path = layout.record("train_grpo", "grpo-s0")
    energy = read_record(path)["energy"] | {"earlier_segments": {"count": 1, "gross_j": 400.0, "net_j": None}}
    change(path, energy=energy)
    found = rows_of(study, layout)
    assert found["grpo-s0", "fp32", "gross_j"]["training"] == 4000
    assert found["grpo-s0", "fp32", "net_j"]["training"] is None


def test_training_that_saves_nothing_never_pays_back(study, layout, rows):
    path = layout.record("evaluate_gsm8k", "grpo-s0.fp32")
    dear = energy_of({"load": (2.0, 100.0, 40.0), "generate": (12.5, 99_000.0, 98_000.0)})
    change(path, energy=dear)
    row = rows_of(study, layout)["grpo-s0", "fp32", "gross_j"]
    assert row["saved_per_correct"] < 0
    assert row["payback_correct_answers"] is row["payback_high"] is None
    assert "never pays back" in row["null_reason"]


def test_a_saving_that_may_be_none_has_no_upper_end(study, layout, rows):
    path = layout.record("evaluate_gsm8k", "grpo-s0.fp32")
    before, after = (sum(correct_items(Cell(name, "fp32"), 40)) for name in ("base", "grpo-s0"))
    close = 1250 / before * after * 0.99
    change(path, energy=energy_of({"load": (2.0, 1.0, 1.0), "generate": (12.5, close, close)}))
    row = rows_of(study, layout)["grpo-s0", "fp32", "gross_j"]
    assert row["payback_correct_answers"] > 0
    assert row["payback_high"] is None
    assert "no upper end" in row["null_reason"]


def test_no_meter_leaves_joules_null_and_seconds_there(study, layout, rows):
    for name in ("base.fp32", "grpo-s0.fp32"):
        path = layout.record("evaluate_gsm8k", name)
        energy = read_record(path)["energy"] | {"phase_totals": [], "null_reasons": {"gross_j": "no meter"}}
        change(path, energy=energy)
    found = rows_of(study, layout)
    assert found["grpo-s0", "fp32", "gross_j"]["null_reason"] == "no meter"
    assert found["grpo-s0", "fp32", "s"]["payback_correct_answers"] > 0


def test_without_a_training_record(study, layout, rows):
    layout.record("train_grpo", "grpo-s0").unlink()
    row = rows_of(study, layout)["grpo-s0", "fp32", "s"]
    assert row["training"] is None
    assert row["saved_per_correct"] is not None
    assert row["null_reason"] == "there is no record of the training"

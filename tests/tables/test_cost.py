"""Joules, seconds and dollars per correct answer."""

from __future__ import annotations

import pytest

from factories import correct_items, no_energy, write_evaluation
from gainwatt.record import read_record, write_record
from gainwatt.study import Cell
from gainwatt.study.operations import Cost
from gainwatt.tables import cost
from gainwatt.tables.results import Results

CELL = Cell("base", "fp32")


def test_a_million_answers_of_14_joules_are_4_kwh():
    one_usd_per_kwh = Cost(electricity_usd_per_kwh=1.0)
    assert cost.electricity_usd(1e6 * 14.16, one_usd_per_kwh) == pytest.approx(3.9333, abs=1e-4)
    assert round(cost.electricity_usd(1e6 * 14.16, one_usd_per_kwh), 2) == 3.93


def test_price_and_pue_multiply():
    assert cost.electricity_usd(7.2e6, Cost(electricity_usd_per_kwh=0.1, pue=1.5)) == pytest.approx(0.3)
    assert cost.electricity_usd(None, Cost(electricity_usd_per_kwh=0.1)) is None
    assert cost.electricity_usd(1.0, Cost()) is None
    assert cost.electricity_usd(3.6e6, Cost(electricity_usd_per_kwh=0.0)) == 0.0


def test_per_correct_answer(results):
    row = cost.per_correct_answer(results)[0]
    correct = sum(correct_items(CELL, 40))
    assert (row["variant"], row["scheme"], row["correct"]) == ("base", "fp32", correct)
    assert row["s_per_correct"] == pytest.approx(12.5 / correct)
    assert row["gross_j_per_correct"] == pytest.approx(1250 / correct)
    assert row["net_j_per_correct"] == pytest.approx(500 / correct)
    assert row["electricity_usd_per_correct"] == pytest.approx(1250 / 3.6e6 * 1.5 * 0.12 / correct)
    assert row["machine_usd_per_correct"] == pytest.approx(12.5 / 3600 * 2.0 / correct)
    assert row["boundary"] == "gpu_board"
    assert row["null_reason"] is None


def one(study, layout, **changed):
    write_evaluation(study, CELL, **changed)
    (row,) = cost.per_correct_answer(Results.load(study, layout))
    return row


@pytest.mark.parametrize(
    ("effective", "shown"), [({"batch_size": 8}, 8), ({"batch_size": None, "max_num_seqs": 256}, 256)]
)
def test_answers_generated_at_once(study, layout, effective, shown):
    settings = study.settings("evaluate_gsm8k") | {"effective": effective, "events": []}
    assert one(study, layout, settings=settings)["batch_size"] == shown


def test_no_meter_is_null_with_its_reason(study, layout):
    row = one(study, layout, metered=False)
    assert row["gross_j_per_correct"] is row["net_j_per_correct"] is row["electricity_usd_per_correct"] is None
    assert "no meter on this machine" in row["null_reason"]
    assert row["s_per_correct"] > 0
    assert row["boundary"] is None


def test_marks_of_the_phase_and_joules_of_killed_processes_are_shown(study, layout):
    path = write_evaluation(study, CELL)
    energy = read_record(path)["energy"]
    total = next(total for total in energy["phase_totals"] if total["path"] == "generate")
    total["flags"] = ["under_five_ticks"]
    energy["earlier_segments"] = {"count": 1, "gross_j": 77.5}
    write_evaluation(study, CELL, energy=energy)
    results = Results.load(study, layout)
    (row,) = cost.per_correct_answer(results)
    assert "under_five_ticks" in row["flags"].split("; ")
    assert "short" in row["flags"].split("; ")
    (job,) = [row for row in cost.energy_by_job(results) if row["stage"] == "evaluate_gsm8k"]
    assert job["earlier_gross_j"] == 77.5


@pytest.mark.parametrize(
    ("after", "per_correct", "reason"),
    [
        ((70.0, 10.0), 250.0, None),
        ((70.0, None), None, "idle power after the work was not measured"),
        ((120.0, 10.0), None, "the work drew less than the idle power after it"),
    ],
)
def test_what_holding_the_board_costs_is_told_apart(study, layout, after, per_correct, reason):
    energy = read_record(write_evaluation(study, CELL))["energy"]
    energy["devices"] = [
        {"method": "counter", "idle_before_w": before, "idle_after_w": watts}
        for before, watts in zip((50.0, 10.0), after, strict=True)
    ]
    row = one(study, layout, energy=energy)
    assert row["null_reason"] is None
    assert row["net_j_per_correct"] == pytest.approx(500 / row["correct"])
    above = row["above_loaded_idle_j_per_correct"]
    assert above == (None if per_correct is None else pytest.approx(per_correct / row["correct"]))
    assert row["above_loaded_idle_null_reason"] == reason
    (job,) = [row for row in cost.energy_by_job(Results.load(study, layout)) if row["stage"] == "evaluate_gsm8k"]
    assert (job["idle_before_w"], job["idle_after_w"]) == (60.0, sum(after) if None not in after else None)


def test_no_correct_answer_is_null_not_a_division(study, layout):
    row = one(study, layout, n=1)  # its only item is wrong
    assert row["correct"] == 0
    assert row["s_per_correct"] is row["gross_j_per_correct"] is None
    assert row["null_reason"] == "no correct answer"


def test_an_interrupted_evaluation_has_no_joules(study, layout):
    path = write_evaluation(study, CELL)
    metrics = read_record(path)["metrics"] | {"resumed_items": 7}
    row = one(study, layout, metrics=metrics)
    assert row["gross_j_per_correct"] is row["net_j_per_correct"] is None
    assert "7 items were answered before" in row["null_reason"]


def test_without_prices_dollars_are_null(study, layout):
    free = study.model_copy(update={"cost": Cost()})
    write_evaluation(free, CELL)
    (row,) = cost.per_correct_answer(Results.load(free, layout))
    assert row["electricity_usd_per_correct"] is row["machine_usd_per_correct"] is None
    assert row["gross_j_per_correct"] is not None


def test_energy_by_job(results):
    rows = cost.energy_by_job(results)
    assert len(rows) == len(results.all_records())
    row = next(row for row in rows if row["cell"] == "base.fp32")
    assert (row["stage"], row["status"]) == ("evaluate_gsm8k", "ok")
    assert row["seconds"] == 14.5
    assert row["gross_j"] == 1350.0
    assert row["flags"] == "short; unaligned"
    assert row["earlier_gross_j"] is None
    training = next(row for row in rows if row["cell"] == "grpo-s0" and row["stage"] == "train_grpo")
    assert training["seconds"] == 36.0  # nested phases are not counted twice
    diagnosis = next(row for row in rows if row["stage"] == "diagnose_weights")
    assert diagnosis["gross_j"] is None
    assert "no meter" in diagnosis["null_reason"]


def test_the_meters_own_block_can_be_read(study, layout):
    from gainwatt.energy import EnergyMeter

    meter = EnergyMeter(idle_s=0)
    meter.start()
    with meter.phase("generate"), meter.phase("inner"):
        pass
    meter.stop()
    write_evaluation(study, CELL, energy=meter.summary(), phases=meter.phases())
    results = Results.load(study, layout)
    _, _, seconds = cost.phase_energy(results.evaluations[CELL], "generate/inner")
    assert seconds == meter.phases()[1]["seconds"]
    (job,) = cost.energy_by_job(results)
    assert job["gross_j"] is not None or job["null_reason"]


def test_a_phase_that_did_not_happen():
    assert cost.phase_energy({"energy": no_energy()}, "generate") == (None, None, 0.0)


def test_intervals_follow_tokens_and_right_answers(results):
    from gainwatt.stats.ratio import bootstrap_ratio

    row = cost.per_correct_answer(results)[0]
    items, settings = results.items[CELL], results.study.statistics
    tokens = bootstrap_ratio(items["tokens"], items["correct"], draws=settings.bootstrap_draws, seed=settings.seed)
    assert (row["tokens_per_correct_low"], row["tokens_per_correct_high"]) == pytest.approx((tokens.low, tokens.high))
    for name in ("gross_j", "net_j", "s", "electricity_usd", "machine_usd"):
        low, value, high = (row[f"{name}_per_correct{end}"] for end in ("_low", "", "_high"))
        assert low < value < high
        assert low / value == pytest.approx(tokens.low / tokens.estimate)
    assert row["interval_null_reason"] is None


def test_a_cell_with_one_right_answer_in_a_few_has_an_open_interval(study, layout):
    path = write_evaluation(study, CELL, n=4)
    assert read_record(path)["metrics"]["correct"] in (0, 1, 2)
    row = one(study, layout, n=4)
    assert row["tokens_per_correct_high"] is row["gross_j_per_correct_high"] is None
    assert row["interval_null_reason"]


def test_method_and_the_reason_of_a_net_energy_that_is_null(study, layout):
    path = write_evaluation(study, CELL)
    record = read_record(path)
    (total,) = [total for total in record["energy"]["phase_totals"] if total["path"] == "generate"]
    total |= {"method": "counter", "net_j": None, "net_reason": "less than the idle power explains"}
    record["energy"] |= {"net_j": None, "null_reasons": {"net_j": "the board was not at rest"}}
    write_record(path, record)
    results = Results.load(study, layout)
    (row,) = cost.per_correct_answer(results)
    assert row["method"] == "counter"
    assert row["gross_j_per_correct"] is not None
    assert row["null_reason"] == "net energy: less than the idle power explains"
    (job,) = cost.energy_by_job(results)
    assert job["null_reason"] == "net energy: the board was not at rest"

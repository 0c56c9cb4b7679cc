"""Several machines in one table: ratios to each one's own baseline, what differs, and what is refused."""

from __future__ import annotations

import shutil

import pytest

from gainwatt.errors import InputError
from gainwatt.portability.join import as_markdown, differences, join, rows
from gainwatt.portability.machines import read_sessions
from gainwatt.profiling.ratios import RatioOf

from .conftest import energy, environment, make_study, measure, write_inference


def joined(*folders, baseline=None):
    return join(read_sessions([str(folder) for folder in folders]), baseline)


def only(found, **wanted):
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def test_ratios_are_to_each_machines_own_baseline(pair):
    found = rows(joined(*pair))
    times = only(found, stage="profile_inference", quantity="latency", workload="batch 1, 32 + 32 tokens")
    assert [row["machine"] for row in times] == ["Small board, 45 W", "Large board, 45 W"]
    assert [row["ratio"] for row in times] == [pytest.approx(1.5, rel=0.03), pytest.approx(0.8, rel=0.03)]
    for row in times:
        assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
        assert (row["baseline"], row["arm"], row["n"]) == ("fp16", "base.bnb-nf4", 6)
        assert row["ratio"] == pytest.approx(row["value"] / row["baseline_value"], rel=0.02)


def test_training_and_evaluation_stand_in_the_same_table(pair):
    found = rows(joined(*pair))
    steps = only(found, stage="profile_training", quantity="gross_j_per_step")
    assert len(steps) == 2
    assert all(row["ratio_low"] < row["ratio"] < row["ratio_high"] for row in steps)
    accuracy = only(found, stage="evaluate_gsm8k", quantity="accuracy")
    assert len(accuracy) == 2
    assert accuracy[0]["ratio_low"] <= accuracy[0]["ratio"] <= accuracy[0]["ratio_high"]
    speed = only(found, stage="evaluate_gsm8k", quantity="throughput")[0]
    assert (speed["ratio"], speed["ratio_low"], speed["note"]) == (1.0, None, "one run each: no interval")
    energy_row = only(found, stage="evaluate_gsm8k", quantity="gross_j_per_token")[0]
    assert (energy_row["ratio"], energy_row["note"]) == (None, "no meter on this machine")


def test_a_scheme_that_does_not_carry_over_is_named(pair):
    found = only(differences(joined(*pair)), stage="profile_inference", quantity="latency")
    assert [row["verdict"] for row in found] == ["differs", "differs"]
    assert found[0]["quotient"] == pytest.approx(0.8 / 1.5, rel=0.03)
    assert found[0]["quotient_high"] < 1
    same = only(differences(joined(*pair)), stage="profile_training", quantity="step")
    assert [row["verdict"] for row in same] == ["no difference shown"]
    assert "Ratios that differ" in as_markdown(joined(*pair))


def test_a_cell_that_did_not_fit_is_a_row(tmp_path, pair):
    other = measure(make_study(tmp_path / "c"), "Tiny board", 1.2, failed=(("bnb-nf4", 8),))
    found = only(rows(joined(pair[0], other)), machine="Tiny board, 45 W", quantity="latency")
    assert [row["status"] for row in found] == ["ok", "oom"]
    assert (found[1]["ratio"], found[1]["note"]) == (None, "CUDA out of memory")


def test_a_machine_without_a_meter_still_has_times(tmp_path, pair):
    other = measure(make_study(tmp_path / "c"), None, 1.2)
    found = joined(pair[0], other)
    mine = only(rows(found), machine="a CPU, 8 cores", stage="profile_inference")
    assert only(mine, quantity="latency")[0]["ratio"] == pytest.approx(1.2, rel=0.03)
    assert only(mine, quantity="gross_j_per_token")[0]["ratio"] is None
    assert only(mine, quantity="gross_j_per_token")[0]["note"]
    board = only(rows(found), machine="Small board, 45 W", stage="profile_inference", quantity="gross_j_per_token")
    assert board[0]["ratio"] is not None


@pytest.mark.parametrize(
    ("section", "inference", "said"),
    [
        ({"long_tail_threshold_tokens": 100}, {}, "profile_training: train_profile"),
        ({}, {"base": "c" * 64}, "profile_inference: model (SHA-256)"),
        ({}, {"cell": {"variant": "base", "baseline": "bf16", "arms": "x"}}, "profile_inference: baseline"),
        ({}, {"mode": "static"}, "profile_inference: mode"),
        ({}, {"settings": {"model.dtype": "bf16"}}, "profile_inference: model.dtype"),
    ],
)
def test_mixed_definitions_are_refused(tmp_path, pair, section, inference, said):
    other = measure(make_study(tmp_path / "c", **section), "Third board", 1.2, **inference)
    with pytest.raises(InputError, match="measure different things") as caught:
        joined(pair[0], other)
    assert said in str(caught.value)
    assert "Third board" in str(caught.value)


def test_more_steps_are_no_other_definition(tmp_path, pair):
    other = measure(make_study(tmp_path / "c", steps=20), "Third board", 1.2)
    assert only(rows(joined(pair[0], other)), machine="Third board, 45 W", quantity="step")[0]["n"] == 20


def test_joules_of_other_boundaries_are_refused_and_times_are_not(tmp_path, pair):
    study = make_study(tmp_path / "c")
    other = measure(study, "Third board", 1.2)
    write_inference(study, 1.2, board="Third board", energy=energy("Third board", ("cpu_package", "gpu_board")))
    found = joined(pair[0], other)
    joules = only(rows(found), stage="profile_inference", quantity="gross_j_per_token")
    assert {row["status"] for row in joules} == {"refused"}
    assert all(row["ratio"] is None and "metered different parts" in row["note"] for row in joules)
    assert all(row["ratio"] for row in only(rows(found), stage="profile_inference", quantity="latency"))
    assert only(rows(found), stage="profile_training", quantity="gross_j_per_step")[0]["ratio"] is not None
    assert not only(differences(found), stage="profile_inference", quantity="gross_j_per_token")
    assert "Joules refused" in as_markdown(found)


def test_two_sessions_of_one_machine_stand_apart(tmp_path, pair):
    shutil.copytree(pair[0], tmp_path / "later")
    labels = [session.label for session in read_sessions([str(pair[0]), str(tmp_path / "later")])]
    assert len(set(labels)) == 2
    assert all(label.startswith("Small board, 45 W") for label in labels)


def test_one_folder_that_two_machines_filled_gives_two_sessions(tmp_path):
    study = make_study(tmp_path / "a")
    folder = measure(study, "Small board", 1.5)
    write_inference(study, 1.5, board="Large board")
    labels = {session.label for session in read_sessions([str(folder)])}
    assert labels == {"Small board, 45 W", "Large board, 45 W"}


def test_a_machine_without_the_baseline_says_so(tmp_path, pair):
    study = make_study(tmp_path / "c", bases=["bnb-nf4"])
    other = measure(study, "Third board", 1.2)
    found = only(rows(joined(pair[0], other)), stage="profile_training", machine="Third board, 45 W", quantity="step")
    assert (found[0]["ratio"], found[0]["note"]) == (None, "no fp16 baseline on this machine")


def test_an_interval_with_an_open_end_is_shown_as_such(pair):
    found = joined(*pair)
    for _, entry in found.entries:
        if entry.quantity == "accuracy":
            entry.ratio = RatioOf(1.5, 0.5, None, 40, "the denominator is zero in 3.0% of the resamples")
    assert "1.5 [0.5, ?]" in as_markdown(found)
    accuracy = only(differences(found), quantity="accuracy")
    assert [row["verdict"] for row in accuracy] == ["not tested"]


def test_one_machine_alone_has_nothing_to_be_compared_with(pair, tmp_path):
    with pytest.raises(InputError, match="all records are of one machine"):
        joined(pair[0])
    (tmp_path / "empty" / "records").mkdir(parents=True)
    with pytest.raises(InputError, match="no readable record"):
        joined(pair[0], tmp_path / "empty")


def test_a_record_without_its_machine_is_refused(tmp_path, pair):
    study = make_study(tmp_path / "c")
    other = measure(study, "Third board", 1.2)
    bare = dict.fromkeys(environment("x")) | {"packages": {}}
    write_inference(study, 1.2, board=None, environment=bare, watts=None)
    with pytest.raises(InputError, match="does not say which machine"):
        joined(pair[0], other)

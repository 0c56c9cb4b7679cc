"""What a comparison claims, and what it refuses to claim."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from factories import write_table
from gainwatt.comparison.accuracy import Settings
from gainwatt.comparison.report import as_markdown, compare
from gainwatt.comparison.sides import read_side
from gainwatt.record import text_sha256
from gainwatt.stats.paired import mcnemar_exact
from gainwatt.study import Layout, evaluation_cells
from gainwatt.study.validation import Validation
from validation.records import edit, make_study, write, write_clean

EVAL = "evaluate_gsm8k"


def folder(study):
    return Layout.of(study).results


def compared(a, b):
    return compare(read_side(str(folder(a))), read_side(str(folder(b))), Settings(draws=400), Validation())


def only(found, quantity, cell):
    (row,) = [row for row in found.rows if (row.quantity, row.cell) == (quantity, cell)]
    return row


def verdicts(found):
    return {row.verdict for row in found.rows}


def rewrite_items(study, cell, change, n=None):
    """Replace the items of one evaluation by what `change` makes of each row, with the hash kept in step."""
    from pyarrow import parquet

    path = Layout.of(study).sidecar(EVAL, cell, "items")
    with parquet.ParquetFile(path) as file:
        rows = file.read().to_pylist()[:n]
    entry = write_table(path, [{**row, **change(row)} for row in rows])
    edit(study, EVAL, cell, lambda record: record["outputs"].update(items=entry))


def every_cell(study, change, n=None):
    for cell in evaluation_cells(study):
        rewrite_items(study, cell.name, change, n)


def other_data(study):
    for cell in evaluation_cells(study):
        edit(study, EVAL, cell.name, lambda record: record["inputs"].update(data={"sha256": "0" * 64}))


def test_identical_runs_claim_no_difference(pair):
    found = compared(*pair)
    assert verdicts(found) == {"same"}
    assert found.configuration == found.environment == found.missing == []
    assert all(row["same"] for row in found.inputs)
    assert "No difference was shown" in as_markdown(found)
    quantities = {row.quantity.split()[0] for row in found.rows}
    assert {"accuracy", "gain", "survival", "generate_s", "throughput_tok_s", "gross_j", "net_j"} <= quantities


def test_one_changed_setting_is_named_and_its_effect_tested_on_the_same_items(tmp_path):
    a = make_study(tmp_path / "a")
    b = make_study(tmp_path / "b", evaluate={"max_new_tokens": 99})
    write_clean(a)
    write_clean(b)
    rewrite_items(b, "base.fp32", lambda row: {"correct": True})
    found = compared(a, b)
    keys = {row["key"]: (row["a"], row["b"], row["source"]) for row in found.configuration}
    assert keys == {"evaluate.max_new_tokens": ("512", "99", EVAL)}
    row = only(found, "accuracy", "base.fp32")
    improved = round((1 - row.a) * row.n)
    assert row.verdict == "different"
    assert row.n == 20
    assert row.p_value == pytest.approx(mcnemar_exact(improved, 0))
    tests = sum(one.p_value is not None for one in found.rows)
    assert row.p_holm == pytest.approx(min(1.0, tests * row.p_value))
    assert 0 < row.low < row.difference
    assert only(found, "gain", "fp32").difference == pytest.approx(-row.difference)
    assert only(found, "survival", "bnb-nf4").difference == pytest.approx(row.difference)
    assert only(found, "accuracy", "base.bnb-nf4").verdict == "same"


def test_a_few_changed_answers_are_noise(pair):
    rewrite_items(
        pair[1], "base.fp32", lambda row: {"correct": not row["correct"] if row["index"] < 2 else row["correct"]}
    )
    row = only(compared(*pair), "accuracy", "base.fp32")
    assert row.verdict == "no difference shown"
    assert row.p_holm > 0.05


def test_the_other_way_round_turns_every_sign(pair):
    rewrite_items(pair[1], "grpo-s0.fp32", lambda row: {"correct": row["index"] % 3 == 0})
    forth, back = compared(*pair), compared(*pair[::-1])
    for one, other in zip(forth.rows, back.rows, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        assert (one.p_value, one.verdict) == (other.p_value, other.verdict) or one.quantity in ("gain", "survival")


def test_other_machines_are_named_and_still_measured(pair):
    def other_gpu(record):
        record["energy"]["devices"][0].update(name="Another board", power_limit_w=450.0)
        record["environment"]["packages"]["torch"] = "2.12.0"
        record["metrics"].update(generate_s=5.0, throughput_tok_s=40.0)

    for cell in evaluation_cells(pair[1]):
        edit(pair[1], EVAL, cell.name, other_gpu)
    found = compared(*pair)
    facts = {row["fact"]: (row["a"], row["b"], row["stages"]) for row in found.environment}
    assert facts["GPU model"] == ("A board", "Another board", EVAL)
    assert facts["power limit"] == ("700 W", "450 W", EVAL)
    assert facts["package torch"] == ("2.11.0", "2.12.0", EVAL)
    row = only(found, f"generate_s ({EVAL})", "base.fp32")
    assert row.verdict == "above the noise floor, one run each"
    assert row.relative == pytest.approx(-0.5)
    assert "another machine (GPU model, power limit)" in row.note
    assert "different" not in verdicts(found)
    assert "No difference was shown to exceed noise by a test; differences of single runs" in as_markdown(found)


def test_a_single_run_within_the_noise_floor(pair):
    edit(pair[1], EVAL, "base.fp32", lambda record: record["metrics"].update(throughput_tok_s=20.5))
    row = only(compared(*pair), f"throughput_tok_s ({EVAL})", "base.fp32")
    assert row.verdict == "within the noise floor"
    assert "noise floor 5.5%" in row.note
    assert row.p_value is None


def repeat(study, values):
    edit(study, EVAL, "base.fp32", lambda record: record["metrics"].update(throughput_tok_s=values[0]))
    for number, value in enumerate(values[1:]):
        cell = {"variant": "base", "scheme": "fp32", "engine": "transformers", "repeat": number}
        more = {"cell": cell, "metrics": {"throughput_tok_s": value}}
        write(study, EVAL, f"base.fp32.r{number}", 40, {"generate": 10.2}, **more)


def test_repeats_are_tested_and_can_show_a_difference(pair):
    repeat(pair[0], [20.0, 20.1, 19.9, 20.2, 19.8, 20.05, 19.95])
    repeat(pair[1], [25.0, 25.1, 24.9, 25.2, 24.8, 25.05, 24.95])
    row = only(compared(*pair), f"throughput_tok_s ({EVAL})", "base.fp32")
    assert row.verdict == "different"
    assert row.p_value == pytest.approx(2 / 3432)
    assert row.low < 5.0 < row.high
    assert row.n == 7


def test_two_repeats_can_show_nothing(pair):
    repeat(pair[0], [20.0, 20.1])
    repeat(pair[1], [25.0, 25.1])
    row = only(compared(*pair), f"throughput_tok_s ({EVAL})", "base.fp32")
    assert (row.verdict, row.p_value) == ("no difference shown", pytest.approx(1 / 3))


def test_cells_of_one_side_only_are_missing(pair):
    a, b = pair
    Layout.of(b).record(EVAL, "grpo-s0.bnb-nf4").unlink()
    edit(b, EVAL, "base.bnb-nf4", lambda record: record.update(status="oom", reason="80 GiB"))
    found = compared(a, b)
    assert only(found, "accuracy", "grpo-s0.bnb-nf4").verdict == "missing"
    assert "oom" in only(found, "accuracy", "base.bnb-nf4").note
    assert only(found, "gain", "bnb-nf4").verdict == "missing"
    assert only(found, "gain", "fp32").verdict == "same"
    states = {(row["stage"], row["cell"], row["a"], row["b"]) for row in found.missing}
    assert states == {(EVAL, "grpo-s0.bnb-nf4", "ok", "missing"), (EVAL, "base.bnb-nf4", "ok", "oom")}


def test_the_same_questions_in_other_words_are_refused(pair):
    every_cell(pair[1], lambda row: {"prompt_sha256": text_sha256(f"please: {row['question']}")})
    found = compared(*pair)
    for quantity, cell in (("accuracy", "base.fp32"), ("gain", "fp32"), ("survival", "bnb-nf4")):
        row = only(found, quantity, cell)
        assert row.verdict == "refused"
        assert "other prompt" in row.note
        assert row.p_value is None


def renamed(row):
    return {"question": f"new {row['index']}", "prompt_sha256": text_sha256(f"new {row['index']}")}


def test_data_of_another_source_is_refused(pair):
    every_cell(pair[1], renamed)
    other_data(pair[1])
    edit(pair[1], "prepare_data", "data", lambda record: record["settings"].update({"data.source": "hub:x/y"}))
    found = compared(*pair)
    assert "other data" in only(found, "accuracy", "base.fp32").note
    assert only(found, f"generate_s ({EVAL})", "base.fp32").verdict == "refused"
    assert only(found, f"throughput_tok_s ({EVAL})", "base.fp32").verdict == "same"


def test_other_items_of_the_same_source_are_compared_unpaired(pair):
    every_cell(pair[1], lambda row: renamed(row) | {"correct": True})
    other_data(pair[1])
    found = compared(*pair)
    row = only(found, "accuracy", "base.fp32")
    assert row.method.startswith("unpaired")
    assert row.verdict == "different"
    assert only(found, "gain", "fp32").method.startswith("unpaired")


def test_a_part_of_the_data_is_paired_on_the_shared_items(pair):
    every_cell(pair[1], lambda row: {}, n=8)
    other_data(pair[1])
    row = only(compared(*pair), "accuracy", "base.fp32")
    assert row.n == 8
    assert row.method.startswith("paired")
    assert "8 shared items of 20 and 8" in row.note


def test_joules_of_another_boundary_or_of_an_interrupted_run_are_refused(pair):
    edit(pair[1], EVAL, "base.fp32", lambda record: record["energy"].update(boundary=["gpu_board", "dram"]))
    edit(pair[1], EVAL, "base.bnb-nf4", lambda record: record["metrics"].update(resumed_items=3))
    found = compared(*pair)
    assert "other energy boundary" in only(found, f"gross_j ({EVAL})", "base.fp32").note
    assert "interrupted run" in only(found, f"gross_j ({EVAL})", "base.bnb-nf4").note
    assert only(found, f"generate_s ({EVAL})", "base.fp32").verdict == "same"


def test_broken_records_are_named_and_the_rest_compared(pair):
    Layout.of(pair[1]).record(EVAL, "base.fp32").write_text("{")
    Layout.of(pair[1]).sidecar(EVAL, "base.bnb-nf4", "items").unlink()
    found = compared(*pair)
    assert [row["file"] for row in found.tables()["unreadable"]] == [f"records/{EVAL}/base.fp32.json"]
    assert "base.fp32.json" in as_markdown(found)
    row = only(found, "accuracy", "base.bnb-nf4")
    assert row.verdict == "refused"
    assert "does not exist" in row.note
    assert only(found, "accuracy", "grpo-s0.fp32").verdict == "same"


def test_other_reference_schemes_have_no_survival_to_compare(pair):
    sides = [read_side(str(folder(study))) for study in pair]
    sides[1].__dict__["reference"] = "bf16"
    found = compare(*sides, Settings(draws=400), Validation())
    assert only(found, "survival", "every scheme").verdict == "refused"


def test_study_files_are_compared_key_by_key(tmp_path, pair):
    files = []
    for study, margin in zip(pair, (0.02, 0.05), strict=True):
        whole = study.model_dump(mode="json")
        whole["statistics"]["survival_margin"] = margin
        path = tmp_path / f"{margin}.yaml"
        path.write_text(json.dumps(whole))
        files.append(str(path))
    sides = [read_side(file) for file in files]
    found = compare(*sides, Settings(draws=400), Validation())
    keys = [(row["key"], row["a"], row["b"], row["source"]) for row in found.configuration]
    assert keys == [("statistics.survival_margin", "0.02", "0.05", "study file")]


def test_tables_are_the_same_each_time(pair):
    rewrite_items(pair[1], "grpo-s0.fp32", lambda row: {"correct": row["index"] % 3 == 0})
    first = compared(*pair)
    assert compared(*pair).tables() == first.tables()
    assert as_markdown(first) == as_markdown(replace(compared(*pair)))


def test_a_moved_results_folder_is_the_same_run(pair, tmp_path):
    shutil.copytree(folder(pair[0]), tmp_path / "moved")
    found = compare(
        read_side(str(tmp_path / "moved")),
        read_side(str(folder(pair[0]) / "records")),
        Settings(draws=400),
        Validation(),
    )
    assert verdicts(found) == {"same"}

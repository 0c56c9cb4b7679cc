"""Records are found where the layout says, and are checked on the way in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyarrow import parquet

from factories import write_evaluation, write_table
from gainwatt.errors import RecordError
from gainwatt.record import read_record, write_record
from gainwatt.stats.counts import resampled_sums
from gainwatt.stats.intervals import Interval
from gainwatt.study import Cell
from gainwatt.tables import accuracy, resamples
from gainwatt.tables.results import Results, read_sidecar

CELL = Cell("base", "fp32")


def change(path, edit):
    record = read_record(path)
    edit(record)
    write_record(path, {key: value for key, value in record.items() if key not in ("kind", "schema_version")})


def test_everything_is_found(results):
    assert len(results.evaluations) == 9
    assert len(results.quantizations) == 6
    assert set(results.trainings) == {"grpo-s0", "grpo-s1"}
    assert set(results.diagnoses) == {"base", "grpo-s0", "grpo-s1"}
    assert results.missing() == []
    assert len(results.all_records()) == 9 + 6 + 2 + 3
    paths = [record["path"] for record in results.all_records()]
    assert paths == sorted(paths)


def test_items_are_sorted_by_index(study, layout):
    path = write_evaluation(study, CELL, n=5)
    rows = parquet.read_table(path.with_suffix(".items.parquet")).to_pylist()
    entry = write_table(path.with_suffix(".items.parquet"), rows[::-1])
    change(path, lambda record: record["outputs"].update(items=entry))
    assert Results.load(study, layout).items[CELL]["index"] == [0, 1, 2, 3, 4]


def test_missing_cells_are_named(study, layout):
    write_evaluation(study, CELL)
    found = Results.load(study, layout)
    assert len(found.missing()) == 8
    assert found.measured(Cell("grpo-s0", "fp32")) is None
    assert set(found.items) == {CELL}


def test_no_record_at_all(study, layout):
    with pytest.raises(RecordError, match="no evaluation record of the study 'tiny'") as caught:
        Results.load(study, layout)
    assert str(layout.results) in caught.value.what


def test_a_cell_that_did_not_fit_has_no_items(study, layout):
    write_evaluation(study, CELL)
    write_evaluation(study, Cell("base", "bnb-nf4"), status="oom", reason="too large", metrics={})
    found = Results.load(study, layout)
    assert found.missing()
    assert found.measured(Cell("base", "bnb-nf4")) is None
    assert set(found.items) == {CELL}


def test_items_that_were_changed_are_refused(study, layout):
    path = write_evaluation(study, CELL)
    items = path.with_suffix(".items.parquet")
    rows = parquet.read_table(items).to_pylist()
    write_table(items, [{**row, "correct": True} for row in rows])
    with pytest.raises(RecordError, match=r"base\.fp32\.items\.parquet is not the file that"):
        _ = Results.load(study, layout).items
    items.unlink()
    with pytest.raises(RecordError, match=r"base\.fp32\.items\.parquet, which .* names, does not exist"):
        _ = Results.load(study, layout).items


def test_a_record_without_the_sidecar_is_named(results):
    with pytest.raises(RecordError, match="names no steps file"):
        read_sidecar(results.evaluations[CELL], "steps")


def test_cells_that_saw_other_questions_are_refused(study, layout):
    write_evaluation(study, CELL, n=5)
    write_evaluation(study, Cell("base", "bnb-nf4"), n=4)
    with pytest.raises(RecordError, match=r"base\.fp32 and base\.bnb-nf4 were not asked the same questions"):
        _ = Results.load(study, layout).items


def test_records_of_another_study_or_stage_are_refused(study, layout):
    path = write_evaluation(study, CELL)
    change(path, lambda record: record.update(study="other"))
    with pytest.raises(RecordError, match="belongs to the study 'other', not 'tiny'"):
        Results.load(study, layout)
    change(path, lambda record: record.update(study="tiny", stage="quantize"))
    with pytest.raises(RecordError, match="is of stage 'quantize'"):
        Results.load(study, layout)


def test_a_truncated_record_is_refused(study, layout):
    path = write_evaluation(study, CELL)
    path.write_text(path.read_text()[:200])
    with pytest.raises(RecordError, match=r"base\.fp32\.json is truncated"):
        Results.load(study, layout)


def test_an_older_record_is_refused(study, layout):
    path = write_evaluation(study, CELL)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 0}))
    with pytest.raises(RecordError, match="has schema version 0"):
        Results.load(study, layout)


def edited(study, layout, **metrics):
    path = write_evaluation(study, CELL)
    record = read_record(path)
    path.write_text(json.dumps(record | {"metrics": record["metrics"] | metrics}))
    return Results.load(study, layout)


def test_an_accuracy_that_its_own_counts_contradict_is_refused(study, layout):
    with pytest.raises(RecordError, match=r"base\.fp32\.json contradicts itself: accuracy 0\.9, and \d+ of 40 correct"):
        edited(study, layout, accuracy=0.9)


def test_counts_that_the_items_contradict_are_refused(study, layout):
    found = edited(study, layout, accuracy=0.9, correct=36)
    with pytest.raises(RecordError, match=r"base\.fp32\.json says 36 of 40 correct, and its items say \d+ of 40"):
        _ = found.items


def test_a_table_that_several_show_is_worked_out_once(results, monkeypatch):
    calls = []
    monkeypatch.setattr(accuracy, "wilson", lambda *args: calls.append(args) or Interval(0.0, 1.0))
    first = accuracy.accuracy_matrix(results)
    first.append({})
    assert len(accuracy.accuracy_matrix(results)) == len(first) - 1 == len(calls)


def test_resamples_are_those_of_each_cell_alone(results, monkeypatch):
    monkeypatch.setattr(resamples, "_CELLS", 4)
    monkeypatch.setattr(resamples, "_KEPT", 1)
    settings = results.study.statistics
    for cell in [*results.items, *results.items]:
        items = results.items[cell]
        pair = np.array([items["tokens"], items["correct"]], dtype=float).T
        alone = resampled_sums(pair, draws=settings.bootstrap_draws, seed=settings.seed)
        assert (results.resamples.of(cell) == alone.T).all()

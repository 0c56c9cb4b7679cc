"""Each expectation on heads and pruning curves: clean records meet it, and a broken one is found."""

from __future__ import annotations

import pytest
from pyarrow import parquet

from factories import write_table
from gainwatt.record import text_sha256
from gainwatt.study import Cell, Layout
from gainwatt.validation import EXPECTATIONS, validate
from heads.records import write_pruning, write_scores

from .records import edit, make_study

SCORES, CURVE = ("score_heads", "base.fp32"), ("prune_heads", "base.fp32")
MINE = {name for name, e in EXPECTATIONS.items() if (e.on_record or e.on_study).__module__.endswith(".heads")}


@pytest.fixture
def study(tmp_path):
    made = make_study(tmp_path, heads={"prune": {"percents": [25], "random_draws": 1}})
    write_scores(made, Cell("base", "fp32"))
    write_pruning(made, "base")
    return made


def found(study):
    return {(finding.severity, finding.check) for finding in validate(study, Layout.of(study)) if finding.check in MINE}


def metrics(where, **values):
    return lambda study: edit(study, *where, lambda record: record["metrics"].update(values))


def table(where, name, change):
    """Change the rows of a table beside a record, and keep the record's hash of the file in step."""

    def damage(study):
        path = Layout.of(study).sidecar(*where, name)
        with parquet.ParquetFile(path) as file:
            rows = file.read().to_pylist()
        change(rows)
        entry = write_table(path, rows)
        edit(study, *where, lambda record: record["outputs"].update({name: entry}))

    return damage


def checkpoint(where, **values):
    return lambda study: edit(study, *where, lambda record: record["inputs"]["checkpoint"].update(values))


def cell(place, **values):
    return lambda rows: rows[place].update(values)


BREAKS = [
    ("head_table", "error", table(SCORES, "heads", lambda rows: rows.pop())),
    ("head_table", "error", table(SCORES, "heads", lambda rows: rows.append(dict(rows[0])))),
    ("head_table", "error", table(SCORES, "heads", cell(0, tv_general=1.2, tv_distance=1.2))),
    ("head_table", "error", table(SCORES, "heads", cell(0, p_matched=0.0))),
    ("head_table", "error", table(SCORES, "heads", cell(0, q_general=0.0001))),
    ("head_table", "error", lambda study: edit(study, *SCORES, lambda record: record["outputs"].pop("heads"))),
    ("head_control", "warning", metrics(SCORES, heads_above_null_split_half_share=0.25)),
    ("head_power", "warning", metrics(SCORES, p_floor_general=0.06)),
    ("head_lengths", "warning", metrics(SCORES, tokens_uncut_ratio_general=3.0)),
    ("head_style", "info", metrics(SCORES, heads_above_null_general=9)),
    ("heads_restored", "error", table(CURVE, "points", cell(1, weights_sha256_after="0" * 64))),
    (
        "heads_restored",
        "error",
        table(CURVE, "points", cell(1, weights_sha256_pruned=text_sha256("base"))),
    ),
    ("heads_restored", "error", lambda study: edit(study, *CURVE, lambda record: record["outputs"].pop("points"))),
    ("heads_pruned", "error", table(CURVE, "points", cell(0, n_pruned_heads=12))),
    ("heads_pruned", "error", table(CURVE, "points", cell(1, n_pruned_heads=4))),
    ("heads_pruned", "error", table(CURVE, "points", cell(1, heads=["L0H0"]))),
    ("heads_pruned", "error", table(CURVE, "points", lambda rows: rows.pop(0))),
    (
        "prune_scores",
        "error",
        checkpoint(CURVE, sha256="0" * 64),
    ),
    ("prune_scores", "error", metrics(SCORES, prompts=99)),
]


def test_clean_records_meet_all(study):
    # One head differs from general prompts and none from matched ones: that is said, and no fault.
    assert found(study) == {("info", "head_style")}


@pytest.mark.parametrize(("check", "severity", "damage"), BREAKS)
def test_a_broken_record_is_found(study, check, severity, damage):
    damage(study)
    assert (severity, check) in found(study)


def test_each_is_broken_here():
    assert {check for check, *_ in BREAKS} == MINE

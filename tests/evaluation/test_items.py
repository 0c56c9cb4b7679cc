"""The per-item table has the same columns and types whatever the engine tells."""

from __future__ import annotations

import pytest
from pyarrow import parquet

from factories import items
from gainwatt.engines.base import Completion
from gainwatt.evaluation.items import COLUMNS, write_items
from gainwatt.evaluation.metrics import item_rows


@pytest.mark.parametrize(("latency_s", "batch_size"), [(0.5, 2), (0.25, None), (None, None)])
def test_types_do_not_depend_on_the_engine(tmp_path, latency_s, batch_size):
    answers = {i: Completion(i, "no number", 3, "length", latency_s, batch_size) for i in range(3)}
    rows = item_rows(items(3), answers, {i: f"prompt {i}" for i in range(3)})
    assert list(rows[0]) == list(COLUMNS)
    path = tmp_path / "x.items.parquet"
    write_items(path, rows)
    table = parquet.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    assert table.to_pylist() == rows
    assert [row["answer"] for row in rows] == [None] * 3

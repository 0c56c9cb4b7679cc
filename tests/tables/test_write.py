"""CSV and Markdown of rows."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from gainwatt.tables.write import columns_of, to_csv, to_markdown, write_csv

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


def test_numbers_nulls_and_columns():
    rows = [{"a": 1 / 3, "b": None}, {"b": True, "c": "x, y"}]
    assert columns_of(rows) == ["a", "b", "c"]
    assert to_csv(rows) == 'a,b,c\n0.3333333333,,\n,True,"x, y"\n'
    assert to_markdown(rows) == "| a | b | c |\n| --- | --- | --- |\n| 0.3333 | – | – |\n| – | True | x, y |\n"


def test_no_rows_still_have_a_header():
    assert to_csv([], ["variant"]) == "variant\n"


def test_markdown_cells_cannot_break_the_table():
    assert to_markdown([{"a": "x|y\nz"}]).splitlines()[-1] == "| x\\|y z |"


def test_chosen_columns():
    assert to_markdown([{"a": 1, "b": 2}], ["b"]) == "| b |\n| --- |\n| 2 |\n"


@given(st.lists(st.fixed_dictionaries({"a": TEXT, "b": st.integers() | st.booleans()}), min_size=1, max_size=5))
def test_csv_reads_back(rows):
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]


@given(st.floats(-1e300, 1e300, allow_subnormal=False))
def test_ten_digits_survive(value):
    (row,) = csv.DictReader(io.StringIO(to_csv([{"a": value}])))
    assert abs(float(row["a"]) - value) <= 1e-9 * abs(value)


def test_write_csv(tmp_path):
    write_csv(tmp_path / "t" / "x.csv", [{"a": 1}])
    assert (tmp_path / "t" / "x.csv").read_bytes() == b"a\n1\n"

"""From a CSV file to the table of the page."""

from __future__ import annotations

from gainwatt.report import tables
from gainwatt.report.columns import column_of
from gainwatt.report.material import read_table
from gainwatt.report.registry import TABLES
from gainwatt.report.specs import TableSpec


def read(tmp_path, text, name="t"):
    path = tmp_path / f"{name}.csv"
    path.write_text(text, "utf-8")
    return read_table(path)


def test_columns_are_numbers_only_where_all_values_are(tmp_path):
    found = read(tmp_path, "a_s,b,model,ok,answer\n1.5,2,1e10,True,12\n,x,052e9,False,1e999999\n")
    assert found.rows[0] == {"a_s": 1.5, "b": "2", "model": "1e10", "ok": True, "answer": "12"}
    assert found.rows[1] == {"a_s": None, "b": "x", "model": "052e9", "ok": False, "answer": "1e999999"}
    assert found.numeric == {"a_s"}


def test_a_quoted_line_end_stays_in_its_cell(tmp_path):
    found = read(tmp_path, 'file,what\na,"two\nlines, one cell"\nb,one\u2028more\n')
    assert found.rows == [{"file": "a", "what": "two\nlines, one cell"}, {"file": "b", "what": "one\u2028more"}]


def test_units_come_from_names():
    assert (column_of("rollout_s").label, column_of("rollout_s").unit) == ("rollout", "s")
    assert (column_of("peak_rss_mib").label, column_of("peak_rss_mib").unit) == ("peak rss", "MiB")
    assert (column_of("code_flip_frac_bnb_nf4").label, column_of("code_flip_frac_bnb_nf4").kind) == (
        "code flip bnb nf4", "share",
    )  # fmt: skip
    assert column_of("note_to_self", numeric=False).kind == "text"
    assert column_of("data_sha256", numeric=False).kind == "hash"
    assert column_of("_s").label == " s"


def test_chosen_columns_first_intervals_in_one_and_empty_ones_away(tmp_path):
    text = "variant,accuracy,accuracy_low,accuracy_high,reason,gross_j,extra_s\nbase,0.5,0.4,0.6,,,2\n"
    spec = TableSpec("t", "matrix", "T", "", ("variant", "accuracy", "accuracy_low", "reason", "gross_j", "gone"))
    view = tables.view(spec, read(tmp_path, text))
    assert [column.key for column in view.columns] == [
        "variant", "accuracy", "accuracy_low", "gross_j", "reason", "extra_s",
    ]  # fmt: skip
    assert view.extra == [False, False, False, False, True, True]
    assert [cell.text for cell in view.rows[0]] == ["base", "50.0", "[40.0, 60.0]", "–", "", "2"]
    assert [cell.sort for cell in view.rows[0]] == ["base", "0.5", "0.4", "", "", "2"]


def test_reasons_become_notes_each_said_once(tmp_path):
    text = "variant,reason\na,no meter\nb,\nc,no meter\nd,at -3.0 points\n"
    view = tables.view(TableSpec("t", "matrix", "T", ""), read(tmp_path, text))
    assert [row[1].note for row in view.rows] == [1, 0, 1, 2]
    assert view.notes == ["no meter", "at −3.0 points"]


def test_few_rows_with_many_columns_are_turned(tmp_path):
    text = "variant,checkpoint,status,rms,peak_mib,none_db\nbase,dense,ok,0.5,10,\ngrpo-s0,dense,oom,0.6,11,\n"
    view = tables.view(TableSpec("t", "weights", "T", "", transposed=True), read(tmp_path, text))
    assert [column.label for column in view.columns] == ["quantity", "base", "grpo-s0 oom"]
    assert [[cell.text for cell in row] for row in view.rows][:2] == [
        ["rms", "0.5000", "0.6000"], ["peak (MiB)", "10", "11"],
    ]  # fmt: skip
    assert view.extra_rows == [False, False, True]
    assert view.has_extra


def test_long_tables_are_cut_and_say_so(tmp_path):
    text = "variant,n\n" + "".join(f"v{i},{i}\n" for i in range(tables.MAX_ROWS + 7))
    view = tables.view(TableSpec("t", "matrix", "T", ""), read(tmp_path, text))
    assert (len(view.rows), view.left_out) == (tables.MAX_ROWS, 7)


def test_every_table_of_the_registry_has_words_and_a_key_of_its_own():
    assert len({spec.key for spec in TABLES}) == len(TABLES)
    assert all(spec.title and spec.help and spec.empty for spec in TABLES)

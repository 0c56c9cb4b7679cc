"""The join of machines by its command line: Markdown, tables, figure, and errors as two lines."""

from __future__ import annotations

import csv
import json

from factories import run_script, script_main
from portability.conftest import make_study, measure


def folders(tmp_path):
    boards = (("Small board", 1.5), ("Large board", 0.8))
    return [str(measure(make_study(tmp_path / str(i)), *board)) for i, board in enumerate(boards)]


def test_table_figure_and_the_same_bytes_again(tmp_path, capsys):
    made = folders(tmp_path)
    for name in ("x", "y"):
        assert script_main("compare_machines")([*made, "--out", str(tmp_path / name), "--figure"]) == 0
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("x", "y")]
    assert contents[0] == contents[1]
    tables = {f"{name}.csv" for name in ("machines", "ratios", "differences")}
    assert set(contents[0]) == tables | {f"machines.{kind}" for kind in ("md", "json", "svg", "png")}
    assert contents[0]["machines.md"].decode() in capsys.readouterr().out
    found = list(csv.DictReader(contents[0]["ratios.csv"].decode().splitlines()))
    assert {row["machine"] for row in found} == {"Small board, 45 W", "Large board, 45 W"}
    assert len(json.loads(contents[0]["machines.json"])["ratios"]) == len(found)


def test_mistakes_are_two_lines_and_a_code(tmp_path):
    done = run_script("compare_machines", tmp_path / "nowhere", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "there is no study file or results folder" in done.stderr
    assert "what to do:" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_script("compare_machines", tmp_path, "--figure")
    assert done.returncode == 2
    assert "give --out DIR" in done.stderr

"""The comparison by its command line: Markdown, files, figure, and errors as two lines."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

from factories import ROOT, run_script
from gainwatt.study import Layout

FILES = {"comparison", "configuration", "environment", "inputs", "missing", "unreadable"}


def folders(pair):
    return [Layout.of(study).results for study in pair]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_markdown_tables_json_and_figure_and_the_same_bytes_again(pair, tmp_path):
    first = run_script("compare_studies", *folders(pair), "--out", tmp_path / "x", "--figure", "--draws", 200)
    assert first.returncode == 0, first.stderr
    found = contents(tmp_path / "x")
    names = {f"{name}.csv" for name in FILES} | {f"comparison.{kind}" for kind in ("md", "json", "svg", "png")}
    assert set(found) == names
    assert first.stdout == found["comparison.md"].decode()
    assert len(json.loads(found["comparison.json"])["comparison"]) > 10
    header = next(csv.reader(found["configuration.csv"].decode().splitlines()))
    assert header == ["key", "a", "b", "source"]
    again = run_script(
        "compare_studies", *folders(pair), "--out", tmp_path / "y", "--figure", "--draws", 200, PYTHONHASHSEED="7"
    )
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "y") == found


def test_mistakes_are_two_lines_and_a_code(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    known = folders(pair)[0]
    for options in (
        (known, "gone.yaml"),
        (known, tmp_path / "empty"),
        (known, known, "--figure"),
        (known, known, "--confidence", 2),
    ):
        done = run_script("compare_studies", *options)
        assert done.returncode == 2, options
        assert done.stderr.startswith("error: ")
        assert "what to do:" in done.stderr
        assert "Traceback" not in done.stderr


def test_nothing_heavy_is_imported(pair):
    first, second = map(str, folders(pair))
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['compare_studies.py', {first!r}, {second!r}, '--draws', '200']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'compare_studies.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"

"""The validator by its command line: table, text, exit codes, and the two steps that the workflow takes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from factories import ROOT, run_script, write_study
from gainwatt.errors import RecordError
from gainwatt.study import Layout, load_study
from gainwatt.validation import COLUMNS, EXPECTATIONS, Finding
from gainwatt.validation.findings import as_text, counted, read_findings, write_findings

from .records import edit, write_clean

EVAL = ("evaluate_gsm8k", "grpo-s0.fp32")


@pytest.fixture
def file(tmp_path):
    path = write_study(tmp_path, {})
    write_clean(load_study(path))
    return path


def spoil(file, **metrics):
    edit(load_study(file), *EVAL, lambda record: record["metrics"].update(metrics))


def table(file):
    return Layout.of(load_study(file)).tables / "validation.csv"


def test_nothing_found_is_a_header_and_code_0(file):
    done = run_script("validate", "--study", file, "--strict")
    assert done.returncode == 0, done.stderr
    assert table(file).read_text() == ",".join(COLUMNS) + "\n"
    assert "0 errors, 0 warnings, 0 infos" in done.stdout


def test_an_error_is_code_3_and_names_file_check_and_what_to_do(file):
    spoil(file, accuracy=0.01)
    done = run_script("validate", "--study", file)
    assert done.returncode == 3
    assert "records/evaluate_gsm8k/grpo-s0.fp32.json" in done.stderr
    assert "recomputed" in done.stderr
    assert "what to do:" in done.stderr
    assert "Traceback" not in done.stderr
    (row,) = csv.DictReader(table(file).read_text().splitlines())
    assert tuple(row) == COLUMNS
    assert (row["severity"], row["check"], row["file"]) == ("error", "recomputed", f"records/{EVAL[0]}/{EVAL[1]}.json")


def test_a_warning_fails_only_where_strict(file):
    edit(load_study(file), *EVAL, lambda record: record["environment"]["git"].update(changed=True))
    assert run_script("validate", "--study", file).returncode == 0
    assert run_script("validate", "--study", file, "--strict").returncode == 3


def test_the_workflow_writes_findings_first_and_fails_last(file, tmp_path):
    spoil(file, accuracy=0.01)
    passed = tmp_path / "checked.json"
    assert run_script("validate", "--study", file, "--report-only").returncode == 0
    judged = run_script("validate", "--study", file, "--findings", table(file), "--passed", passed)
    assert judged.returncode == 3
    assert not passed.exists()
    assert "recomputed" in judged.stdout
    write_findings(table(file), [])
    assert run_script("validate", "--study", file, "--findings", table(file), "--passed", passed).returncode == 0
    assert json.loads(passed.read_text())["findings"] == "0 errors, 0 warnings, 0 infos"


def test_no_record_at_all_names_every_cell(tmp_path):
    done = run_script("validate", "--study", write_study(tmp_path, {}))
    assert done.returncode == 3
    assert "evaluate_gsm8k of base.bnb-nf4" in done.stdout


def test_list_names_every_expectation_and_needs_no_study():
    done = run_script("validate", "--study", "none.yaml", "--list")
    assert done.returncode == 0
    for name, expectation in EXPECTATIONS.items():
        assert name in done.stdout
        assert expectation.description
        assert expectation.source in done.stdout


def test_nothing_heavy_is_imported(file):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['validate.py', '--study', {str(file)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'validate.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "print([name for name in ('torch', 'transformers', 'pandas', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_findings_survive_writing_and_reading(tmp_path):
    found = [Finding("error", "a", "x.json", 'a "quoted", text\nof two lines', ""), Finding("info", "b", "", "b", "c")]
    write_findings(tmp_path / "validation.csv", found)
    assert read_findings(tmp_path / "validation.csv") == found
    assert counted(found) == "1 error, 0 warnings, 1 info"


@pytest.mark.parametrize("text", ["", "severity,check\n", "severity,check,file,what,hint\nfatal,a,b,c,d\n", "\0"])
def test_a_foreign_table_is_refused_by_name(tmp_path, text):
    path = tmp_path / "validation.csv"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"validation\.csv"):
        read_findings(path)


def test_a_long_list_is_cut_in_the_text_and_says_so():
    found = [Finding("warning", "x", f"{i}.json", "same", "do it") for i in range(30)]
    text = as_text(found, shown=3)
    assert text.count("same") == 3
    assert "and 27 more" in text
    assert text.count("what to do: do it") == 1

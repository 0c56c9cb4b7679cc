"""The command line that all scripts share."""

from __future__ import annotations

import json
import sys

import pytest

from factories import study_content, write_study
from gainwatt import cli
from gainwatt.errors import InputError, RecordError
from gainwatt.workflow import OVERRIDES_VARIABLE, STUDY_VARIABLE


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv(STUDY_VARIABLE, raising=False)
    monkeypatch.delenv(OVERRIDES_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return write_study(tmp_path, study_content(tmp_path))


def test_the_study_is_required_by_hand(file, capsys):
    with pytest.raises(SystemExit):
        cli.parser("Words.").parse_args([])
    assert "--study" in capsys.readouterr().err


def test_study_and_overrides_from_the_command_line(file):
    args = cli.parser(None).parse_args(["--study", str(file), "--set", "cost.pue=1.5", "--set", "study=other"])
    study, layout = cli.study_of(args)
    assert study.cost.pue == 1.5
    assert layout.results.name == "other"


def test_the_workflow_gives_study_and_overrides_by_the_environment(file, monkeypatch):
    monkeypatch.setenv(STUDY_VARIABLE, str(file))
    monkeypatch.setenv(OVERRIDES_VARIABLE, json.dumps(["cost.pue=1.5"]))
    study, _ = cli.study_of(cli.parser(None).parse_args([]))
    assert study.cost.pue == 1.5
    other, _ = cli.study_of(cli.parser(None).parse_args(["--set", "cost.pue=2"]))
    assert other.cost.pue == 2.0


def test_the_command_is_completed_so_that_it_can_be_run_by_hand(file, monkeypatch):
    monkeypatch.setenv(STUDY_VARIABLE, str(file))
    monkeypatch.setenv(OVERRIDES_VARIABLE, json.dumps(["cost.pue=1.5"]))
    monkeypatch.setattr(sys, "argv", ["scripts/x.py", "--out", "d"])
    cli.study_of(cli.parser(None).parse_args([]))
    assert sys.argv == ["scripts/x.py", "--study", str(file), "--set", "cost.pue=1.5", "--out", "d"]


@pytest.mark.parametrize("words", [["--study", "x.yaml"], ["--study=x.yaml"]])
def test_a_complete_command_is_left_alone(file, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["scripts/x.py", *words])
    cli.study_of(cli.parser(None).parse_args(["--study", str(file)]))
    assert sys.argv == ["scripts/x.py", *words]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("x is bad", "mend it"), 2, "error: x is bad\n  what to do: mend it\n"),
        (RecordError("r"), 3, "error: r\n"),
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on\n"),
        (cli.Terminated(), 143, "terminated by SIGTERM: the same command goes on\n"),
    ],
)
def test_errors_are_two_lines_and_an_exit_code(capsys, error, code, said):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    assert caught.value.code == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_the_exit_code_is_passed_on():
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda argv: 0)
    assert caught.value.code == 0


def test_progress_passes_items_through(capsys):
    assert list(cli.progress([1, 2], what="count")) == [1, 2]
    assert "count" in capsys.readouterr().err

"""The published counts and any others: what they show, and mistakes on the command line."""

from __future__ import annotations

import json

import pytest

from factories import run_script


def test_the_published_counts_are_judged():
    done = run_script("judge_published")
    assert done.returncode == 0, done.stderr
    assert "| fp16 | 68.0 [58.3, 76.3] | 72.0 [62.5, 79.9] |" in done.stdout
    assert "| nf4 | +4.0 | +3.0 | -1.0 | [-19.2, +17.2] | undecided | 2057 |" in done.stdout
    assert "| awq | +4.0 | +9.0 | +5.0 | [-13.4, +23.4] | undecided | 2057 |" in done.stdout
    assert "treated as independent" in done.stdout


def test_any_counts_can_be_given():
    options = ("--items", "100000", "--margin", "0.01", "bf16=50000,60000", "int8=50000,60100", "int4=50000,50000")
    done = run_script("judge_published", *options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {scheme: got["verdict"] for scheme, got in found.items()} == {"int8": "survives", "int4": "erased"}
    assert found["int4"]["items_needed_within_margin"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nf4",), "cannot read 'nf4'"),
        (("nf4=65,6x", "b=1,2"), "cannot read 'nf4=65,6x'"),
        (("a=1,2",), "nothing to compare"),
        (("a=1,2", "a=1,2"), "'a' is given twice"),
        (("a=1,2", "b=1,200"), "not counts out of 100 items"),
        (("--margin", "7", "a=1,2", "b=1,2"), "the equivalence margin is 7"),
    ],
)
def test_mistakes(options, said):
    done = run_script("judge_published", *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr

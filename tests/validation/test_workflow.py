"""A finished study in a dry run: nothing to do; a record that was removed is made again, and judged again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from factories import ROOT, write_study
from gainwatt.study import DENSE, Layout, load_study, schemes, variants
from gainwatt.workflow import products

from .records import write_clean


@pytest.fixture
def file(tmp_path):
    """A study with every file that the workflow makes, all of one age."""
    path = write_study(tmp_path, {})
    study = load_study(path)
    layout = Layout.of(study)
    write_clean(study)
    made = [layout.manifest(variant, scheme) for variant in variants(study) for scheme in (DENSE, *schemes(study))]
    made += [layout.tables / name for name in ("validation.csv", "checked.json")]
    for target in (*made, *map(Path, products(study, layout))):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    for found in layout.results.rglob("*"):
        os.utime(found, (1_790_000_000, 1_790_000_000))
    return path


def planned(file, tmp_path):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--dry-run", "--nolock", "--cores", "1", "--rerun-triggers", "mtime", "--config", f"study={file}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAINWATT_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = done.stdout + done.stderr
    rules = [
        line.partition("rule ")[2].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))
    ]
    return set(rules)


def test_a_finished_study_has_nothing_to_do(file, tmp_path):
    assert planned(file, tmp_path) <= {"all"}


@pytest.mark.parametrize(("stage", "name"), [("evaluate_gsm8k", "base.fp32"), ("quantize", "base.bnb-nf4")])
def test_a_removed_record_is_made_and_judged_again(file, tmp_path, stage, name):
    Layout.of(load_study(file)).record(stage, name).unlink()
    assert {stage, "make_tables", "validate", "check"} <= planned(file, tmp_path)

"""A clone that holds records and nothing else: one command makes tables and figures, and nothing is measured."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from factories import ROOT, study_content, write_all_records, write_study
from gainwatt.study import Layout, load_study

HEAVY = ("torch", "transformers", "trl", "datasets", "pandas", "accelerate", "tokenizers", "safetensors")
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        # snakemake itself looks for pandas
        package = name.partition(".")[0]
        if package in {names!r} and not (package == "pandas" and "snakemake" in sys.modules):
            raise ImportError(f"{{name}} must not be imported")
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def clone(tmp_path):
    """A working folder with code, study and records, every file with a time of its own, as no clock would give it."""
    for name in ("Snakefile", "workflow", "scripts", "src", "envs", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    content = study_content(Path(), train={"seeds": [0, 1]})
    study = load_study(write_study(tmp_path, content), [f"paths.results={tmp_path}/results"])
    write_all_records(study)
    draw = random.Random(0)
    for path in sorted((tmp_path / "results").rglob("*")):
        os.utime(path, (draw.randrange(10**9, 2 * 10**9),) * 2)
    return tmp_path, Layout.of(study)


@pytest.fixture
def light(tmp_path_factory):
    """Environment variables under which the packages that measure cannot be imported, as in envs/tables.txt."""
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(BLOCKER.format(names=set(HEAVY)))
    paths = os.pathsep.join([str(folder), str(ROOT / "src")])
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("GAINWATT_")}
    return {**cleared, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def run(folder, environment, *command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def products(layout):
    return {path: path.read_bytes() for folder in (layout.tables, layout.figures) for path in folder.iterdir()}


def test_the_blocker_blocks(light, tmp_path):
    assert "must not be imported" in run(tmp_path, light, "-c", "import torch").stderr


def test_scripts_need_nothing_that_measures_and_repeat(clone, light):
    folder, layout = clone
    for script in ("make_tables", "make_figures"):
        done = run(folder, light, f"scripts/{script}.py", "--study", "study.yaml")
        assert done.returncode == 0, done.stderr
    first = products(layout)
    assert len(first) > 15
    for script in ("make_tables", "make_figures"):
        run(
            folder,
            {**light, "PYTHONHASHSEED": "5", "SOURCE_DATE_EPOCH": "99"},
            f"scripts/{script}.py",
            "--study",
            "study.yaml",
        )
    assert products(layout) == first


def test_the_workflow_starts_no_measurement_whatever_the_file_times(clone, light):
    folder, layout = clone
    records = sorted((layout.results / "records").rglob("*"))
    before = {path: path.stat().st_mtime_ns for path in records}
    asked = ["-m", "snakemake", "--cores", "1", "tables", "figures", "--config", "study=study.yaml"]
    done = run(folder, light, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (layout.tables / "summary.md").exists()
    assert (layout.figures / "index.json").exists()
    rules = {
        line.split()[1] for line in (done.stdout + done.stderr).splitlines() if line.startswith(("rule ", "localrule "))
    }
    assert rules <= {"tables:", "figures:"}
    assert {path: path.stat().st_mtime_ns for path in records} == before
    assert not (layout.results / "checkpoints").exists()
    assert sorted((layout.results / "records").rglob("*")) == records


def test_the_workflow_shows_why_records_were_refused(clone, light):
    folder, _ = clone
    asked = ["study=study.yaml", 'set=["evaluate.max_new_tokens=3"]']
    done = run(folder, light, "-m", "snakemake", "--cores", "1", "tables", "--config", *asked)
    assert done.returncode != 0
    assert "evaluate.max_new_tokens was 512, and the study says 3" in done.stderr
    assert "--allow-stale" in done.stderr

"""Every script explains itself without importing anything heavy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from factories import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help(script):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAINWATT_")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--help"],
        capture_output=True, text=True, check=False, env={**environment, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("usage: ")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in imported
    assert not imported & {"torch", "transformers", "pandas", "matplotlib", "pyarrow", "datasets", "trl"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_never_import_snakemake(script):
    assert "import snakemake" not in script.read_text("utf-8")
    assert "from snakemake" not in script.read_text("utf-8")

"""One rich study with both of its pages, built once; a headless browser where the machine has one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from factories import run_script
from gainwatt.study import Layout, Study, load_study
from report import browser, rich


@dataclass(frozen=True)
class Pages:
    """A study with its file, its layout and the texts of both pages."""

    file: Path
    study: Study
    layout: Layout

    @property
    def report(self) -> str:
        return self.report_file.read_text("utf-8")

    @property
    def items(self) -> str:
        return self.items_file.read_text("utf-8")

    @property
    def report_file(self) -> Path:
        return self.layout.results / "report.html"

    @property
    def items_file(self) -> Path:
        return self.layout.results / "items.html"


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> Pages:
    """Do not change its files."""
    folder = tmp_path_factory.mktemp("rich")
    file = folder / "study.yaml"
    file.write_text(json.dumps(rich.rich_content(folder)), "utf-8")
    study = load_study(file)
    rich.write_rich(study, n=60)
    rich.write_tables(study)
    rich.write_figure(study)
    layout = Layout.of(study)
    layout.record("quantize", "base.bnb-nf4").write_text("{", "utf-8")
    (layout.tables / "surprise.csv").write_text("name,latency_ms,share_rate\n<b>x</b>,12.5,0.25\ny,,0.5\n", "utf-8")
    done = run_script("make_report", "--study", file)
    assert done.returncode == 0, done.stderr
    return Pages(file, study, layout)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A running browser; skips where there is none."""
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or name one in GAINWATT_CHROMIUM")
    with browser.running(program, tmp_path_factory.mktemp("chromium")) as running:
        yield running

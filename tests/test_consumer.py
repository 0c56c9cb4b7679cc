"""The CPU forms of the consumer studies from end to end: their tables and figures are there and make sense.

Runs the studies in place (`results/<study>`) where `make demo-consumer` has not done so yet; marked `consumer`, since
that takes minutes. Nothing here asks for a lucky value, or for a time.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from factories import ROOT
from gainwatt.published import published
from gainwatt.record import read_record, read_records
from gainwatt.study import Layout, load_study
from gainwatt.workflow import every_record

pytestmark = pytest.mark.consumer
NAME = "consumer-4gb-demo"
LLAMACPP = ROOT / ".envs" / "llamacpp" / "bin" / "python"
STUDIES = [
    NAME,
    pytest.param("tinyllama-demo", marks=pytest.mark.skipif(not LLAMACPP.exists(), reason="make env NAME=llamacpp")),
]


def run(name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"study=config/{name}.yaml"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)


@pytest.fixture(scope="module")
def finished():
    """Call with a study for its layout, run where it is not done."""
    done = {}

    def finish(name):
        if name not in done:
            made = run(name)
            assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
            done[name] = Layout(ROOT / "results" / name, ROOT / "results" / name)
        return done[name]

    return finish


def table(layout, name):
    with (layout.tables / f"{name}.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("name", STUDIES)
def test_every_record_is_there_and_says_how_it_was_made(finished, name):
    layout = finished(name)
    study = load_study(ROOT / "config" / f"{name}.yaml")
    for path in every_record(study, Layout.of(study)):
        record = read_record(ROOT / path)
        assert record["status"] in ("ok", "unavailable", "oom")
        assert record["status"] == "ok" or record["reason"]
        assert record["inputs"]["settings"]["sha256"]
        if record["energy"]["gross_j"] is None:
            assert record["energy"]["null_reasons"]["gross_j"]
    assert [row for row in table(layout, "validation") if row["severity"] == "error"] == []
    assert (layout.tables / "checked.json").exists()


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_is_drawn_or_says_why_not(finished, name):
    layout = finished(name)
    for figure, entry in json.loads((layout.figures / "index.json").read_text()).items():
        assert entry["files"] or entry["reason"], figure
        assert all((layout.figures / file).stat().st_size > 1000 for file in entry["files"])


@pytest.mark.parametrize("name", STUDIES)
def test_a_second_run_does_nothing(finished, name):
    finished(name)
    again = run(name)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_the_published_table_stands_in_its_own_columns_with_ours_below(finished):
    rows = table(finished(NAME), "published_inference")
    columns = published("powerbench").columns("inference")
    assert list(rows[0])[2 : 2 + len(columns)] == columns
    assert [row["Precision"] for row in rows if row["source"].startswith("published")] == ["FP16", "INT8", "INT4"]
    ours = [row for row in rows if row["source"] == "measured"]
    assert [(row["Precision"], row["scheme"]) for row in ours] == [("FP32", "fp32"), ("INT4", "bnb-nf4-single")]
    for row in ours:
        assert float(row["Mean Latency (ms)"]) > 0
        assert float(row["Tokens/sec"]) > 0
        assert row["WikiPPL"] == row["GSM8K"] == "", "of its own text and of generated problems"


def test_steps_are_profiled_for_both_types_of_the_base(finished):
    layout = finished(NAME)
    rows = table(layout, "train_profile")
    assert [(row["scheme"], row["steps_ok"], row["oom_count"]) for row in rows] == [
        ("bnb-nf4", "6", "0"),
        ("fp32", "6", "0"),
    ]
    for row in rows:
        assert float(row["rollout_s_mean"]) < float(row["step_s_mean"])
        assert 0 <= float(row["long_tail_rate"]) <= float(row["long_tail_padded_rate"]) <= 1
        assert 0 <= float(row["idle_slot_rate"]) < 1
        assert int(row["completions"]) == 6 * 8
    assert float(rows[0]["parameter_bytes"]) < float(rows[1]["parameter_bytes"])
    beside = table(layout, "train_profile_published")
    assert len(beside) == 2 * len(published("powerbench").rows("training"))
    assert all(row["published"] for row in beside)
    assert len(table(layout, "train_profile_steps")) == 2 * 7


def test_generation_is_measured_against_its_own_baseline(finished):
    rows = [row for row in table(finished(NAME), "profile_ratios") if row["status"] == "ok"]
    assert rows
    assert all(float(row["latency_ratio"]) > 0 for row in rows if "latency_ratio" in row)


def test_heads_are_scored(finished):
    records = read_records(finished(NAME).results / "records", "score_heads")
    assert records
    assert all(record["status"] == "ok" for record in records)


def test_the_report_shows_the_branches(finished):
    page = (finished(NAME).results / "report.html").read_text(encoding="utf-8")
    for words in ("GRPO steps: time, memory, energy", "Generation beside the published table", "long tail"):
        assert words in page

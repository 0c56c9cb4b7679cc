"""Costs before a run, and what a run has used (src/gainwatt/cluster/preview.py, afterwards.py, history.py)."""

from __future__ import annotations

import datetime
import json
import os
import stat

import pytest

from factories import base_record, run_script, study_content, write_study
from gainwatt.cluster.afterwards import NO_RULE, Accounted, afterwards, parse_sacct
from gainwatt.cluster.history import Past, read_past
from gainwatt.cluster.preview import GUESSED_GPU_W, preview
from gainwatt.record import write_record
from gainwatt.study import Layout, Study

SACCT = """gainwatt-tiny_1f|rule_train_grpo_wildcards_grpo-s0|TIMEOUT|3600|cpu=4,gres/gpu:a40=2,gres/gpu=2,mem=1G
gainwatt-tiny_1f|rule_train_grpo_wildcards_grpo-s0|COMPLETED|1800|cpu=4,gres/gpu=2
gainwatt-tiny_2e|rule_warm_start|CANCELLED by 1000|60|cpu=1
gainwatt-tiny_2e||COMPLETED|30|
gainwatt-tiny-too_2e|rule_quantize|COMPLETED|30|gres/gpu=1
other|rule_quantize|COMPLETED|30|gres/gpu=1
"""


def study_with(tmp_path, **sections):
    return Study.model_validate(study_content(tmp_path, **sections))


def job(study, stage, cell, *, seconds=3600.0, gross_j=1000.0, gpus=1, kept=10, settings=None, name=None):
    return Past(
        name or study.study, stage, cell, settings or study.settings_sha256(stage), seconds, gpus, gross_j, None, kept,
        kept if stage in ("warm_start", "fetch_model") else None,
    )  # fmt: skip


def rows(study, history, there=()):
    layout = Layout.of(study)
    found = preview(study, layout, history, exists=lambda path: any(path.endswith(each) for each in there))
    return {row["rule"]: row for row in found}


@pytest.fixture
def study(tmp_path):
    resources = {kind: {"gpus": 2, "runtime_min": 30} for kind in ("train", "evaluate")}
    return study_with(tmp_path, train={"seeds": [0, 1]}, resources=resources)


def test_without_records_everything_is_a_guess_and_an_upper_limit(study):
    found = rows(study, [])
    training = found["train_grpo"]
    assert (training["jobs"], training["to_do"]) == (2, 2)
    assert training["gpu_hours"] == pytest.approx(2 * 0.5 * 2)
    assert training["gross_j"] == pytest.approx(2 * 1800 * 2 * GUESSED_GPU_W)
    assert training["hours_basis"] == training["joules_basis"] == "guess"
    assert training["disk_gb"] is None
    assert found["warm_start"]["gross_j"] is None  # no GPU: not even a guess
    assert found["sum"]["gpu_hours"] == pytest.approx(2 * 0.5 * 2 + found["evaluate_gsm8k"]["jobs"] * 0.5 * 2)
    assert found["sum"]["hours_basis"] == "guess in part"
    assert found["sum"]["disk_gb"] is None


def test_the_nearest_record_counts(study):
    history = [
        job(study, "train_grpo", "grpo-s0", seconds=7200, gross_j=500.0),
        job(study, "train_grpo", "grpo-s7", seconds=3600, gross_j=300.0),
        job(study, "train_grpo", "grpo-s8", seconds=36, gross_j=1.0, settings="other"),
        job(study, "evaluate_gsm8k", "base.bnb-nf4", seconds=100, settings="other"),
        job(study, "evaluate_gsm8k", "base.fp32", seconds=50, settings="other"),
    ]
    found = rows(study, history)
    # grpo-s0 as before, grpo-s1 like the median of its settings
    assert found["train_grpo"]["hours"] == pytest.approx(2 + 1.5)
    assert found["train_grpo"]["gross_j"] == pytest.approx(500 + 400)
    assert found["train_grpo"]["hours_basis"] == "same settings"
    # other settings: a guess, by scheme
    assert found["evaluate_gsm8k"]["hours"] == pytest.approx((3 * 100 + 3 * 50) / 3600)
    assert found["evaluate_gsm8k"]["hours_basis"] == "guess"
    again = rows(study, history, there=["train_grpo/grpo-s1.json"])["train_grpo"]
    assert (again["to_do"], again["hours"], again["hours_basis"]) == (1, pytest.approx(2), "same cell")


def test_equal_settings_of_another_study_are_a_guess_only(study):
    other = job(study, "evaluate_gsm8k", "base.fp32", seconds=10, name="another")
    assert rows(study, [other])["evaluate_gsm8k"]["hours_basis"] == "guess"


def test_disk_follows_the_size_of_the_base_model(study):
    found = rows(study, [job(study, "warm_start", "base", kept=4_000_000_000)], there=["warm_start/base.json"])
    assert found["train_grpo"]["disk_gb"] == pytest.approx(2 * 4)
    assert found["train_grpo"]["while_running_gb"] == pytest.approx(1 * 12 * 2)  # 1e9 fp32 parameters, two states
    assert found["quantize"]["disk_gb"] == pytest.approx(3 * 4 * 4.5 / 32, rel=0.1)
    assert found["warm_start"]["to_do"] == 0


def test_a_session_of_many_records_is_one_job(tmp_path):
    resources = {"llamacpp": {"gpus": 1, "runtime_min": 60}}
    study = study_with(tmp_path, llamacpp={"quant_types": ["q4_0", "q8_0"]}, resources=resources)
    found = rows(study, [])["profile_llamacpp"]
    assert (found["jobs"], found["to_do"], found["gpu_hours"]) == (1, 1, pytest.approx(1.0))
    assert found["gross_j"] == pytest.approx(3600 * GUESSED_GPU_W)
    ran = job(study, "profile_llamacpp", "session", seconds=1800)
    found = rows(study, [ran], there=["profile_llamacpp/session.json"])["profile_llamacpp"]
    assert (found["to_do"], found["hours"], found["hours_basis"]) == (1, pytest.approx(0.5), "same cell")
    assert rows(study, [ran], there=[".json"])["profile_llamacpp"]["to_do"] == 0


def test_files_are_brought_without_a_gpu(tmp_path):
    resources = {"llamacpp": {"gpus": 1, "runtime_min": 60}}
    found = rows(study_with(tmp_path, llamacpp={}, resources=resources), [])["fetch_gguf"]
    assert (found["gpus_each"], found["gpu_hours"], found["gross_j"]) == (0, 0, None)


def test_nothing_to_do_costs_nothing(study):
    found = rows(study, [], there=[".json"])
    assert found["sum"]["to_do"] == 0
    assert found["sum"]["gpu_hours"] == 0
    assert found["sum"]["gross_j"] == 0


def write_past(study, stage, cell, *, devices=1, gross_j=720.0):
    times = {"started_at": "2026-01-01T10:00:00+00:00", "ended_at": "2026-01-01T10:30:00+00:00"}
    record = base_record(study, stage, {"variant": cell}, outputs={"checkpoint": {"sha256": "0", "bytes": 7}}, **times)
    record["energy"] |= {"gross_j": gross_j, "devices": [{"boundary": "gpu_board"}] * devices}
    write_record(Layout.of(study).record(stage, cell), record)


def test_records_are_read_and_unreadable_ones_named(study):
    write_past(study, "warm_start", "base", devices=2)
    folder = Layout.of(study).results
    (folder / "records" / "warm_start" / "broken.json").write_text("{", "utf-8")
    found, refused = read_past([folder])
    assert [(one.cell, one.seconds, one.gpus, one.weight_bytes) for one in found] == [("base", 1800.0, 2, 7)]
    assert len(refused) == 1
    assert "broken.json" in refused[0]


def test_sacct_lines():
    assert parse_sacct(SACCT, "gainwatt-tiny") == [
        Accounted("train_grpo", "TIMEOUT", 3600.0, 2),
        Accounted("train_grpo", "COMPLETED", 1800.0, 2),
        Accounted("warm_start", "CANCELLED", 60.0, 0),
        Accounted(NO_RULE, "COMPLETED", 30.0, 0),
    ]


def test_records_beside_accounting(study):
    history = [
        job(study, "train_grpo", "grpo-s0", seconds=1800, gpus=2),
        job(study, "warm_start", "base", gross_j=None),
    ]
    found = {row["rule"]: row for row in afterwards(history, parse_sacct(SACCT, "gainwatt-tiny"))}
    training = found["train_grpo"]
    assert (training["records"], training["slurm_jobs"], training["slurm_not_completed"]) == (1, 2, 1)
    assert (training["gpu_hours"], training["slurm_gpu_hours"]) == (pytest.approx(1), pytest.approx(3))
    assert found["warm_start"]["gross_j"] is None
    assert found["warm_start"]["metered"] == "0 of 1"
    assert found["sum"]["gross_j"] == 1000
    assert found["sum"]["metered"] == "1 of 2"
    assert "slurm_jobs" not in afterwards(history, None)[0]


def test_accounting_that_keeps_no_gpus_is_no_zero(study):
    accounted = [Accounted("train_grpo", "COMPLETED", 1800.0, 0)]
    of_gpus = afterwards([job(study, "train_grpo", "grpo-s0")], accounted)
    assert [(row["slurm_gpu_hours"], row["slurm_hours"]) for row in of_gpus] == [(None, 0.5)] * 2
    of_none = afterwards([job(study, "train_grpo", "grpo-s0", gpus=0)], accounted)
    assert of_none[0]["slurm_gpu_hours"] == 0


def test_both_commands(tmp_path):
    file = write_study(tmp_path, {})
    study = Study.model_validate(json.loads(file.read_text()))
    done = run_script("afterwards", "--study", file, "--no-sacct")
    assert done.returncode == 2
    assert "there are no records" in done.stderr
    write_past(study, "warm_start", "base")
    done = run_script("preview", "--study", file, "--out", tmp_path / "preview.csv")
    assert done.returncode == 0, done.stderr
    assert "| warm_start | 1 | 0 |" in done.stdout
    assert (tmp_path / "preview.csv").read_text().startswith("rule,jobs,to_do")
    done = run_script("preview", "--study", file, "--records", tmp_path)
    assert done.returncode == 2
    assert "holds no folder `records`" in done.stderr
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text(f"#!/bin/sh\ncat <<'EOF'\n{SACCT}EOF\n")
    sacct.chmod(sacct.stat().st_mode | stat.S_IXUSR)
    day = datetime.date(2026, 1, 1).isoformat()
    done = run_script("afterwards", "--study", file, "--since", day, PATH=f"{sacct.parent}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "| warm_start | 1 | 0.5 | 0.5 | 720 |" in done.stdout
    sacct.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1\n")
    done = run_script("afterwards", "--study", file, PATH=f"{sacct.parent}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "without Slurm's accounting: sacct does not answer: Slurm accounting storage is disabled" in done.stdout

"""A whole study through `--profile profiles/slurm`, and two beside each other."""

from __future__ import annotations

import json

import pytest

from gainwatt.study import Layout, load_study
from gainwatt.workflow import every_record

from .cluster import PATIENCE_S

pytestmark = pytest.mark.slurm


def test_a_study_from_training_to_report(place):
    here = place()
    here.copy_profile({"&gpu {nodes: 1}": "&gpu {nodes: 1, slurm_partition: gpu, gpu_model: fake}"})
    status, text = here.run(seconds=2 * PATIENCE_S)
    assert status == 0, text
    results = here.folder / "results" / "tiny"
    assert (results / "report.html").stat().st_size > 10_000
    assert (results / "tables" / "summary.md").exists()
    study = load_study(here.study)
    made = [here.folder / path for path in every_record(study, Layout.of(study))]
    assert all(path.exists() for path in made)
    # Each GPU job: one process, in the GPU partition, with a GPU of its own, without asking the hub.
    trained = here.record("train_grpo", "grpo-s0")
    assert trained["metrics"]["steps"] == 4
    assert trained["energy"]["gross_j"] > 0
    boards = [device for device in here.record("warm_start", "base")["energy"]["devices"] if device.get("uuid")]
    assert boards == []  # it asked for no GPU, and the node has two
    jobs = [here.cluster.job(job) for job in here.runs[0].submitted()]
    assert {(job["Comment"].split("_wildcards")[0], job["Partition"]) for job in jobs} == {
        ("rule_warm_start", "cpu"), ("rule_diagnose_weights", "gpu"), ("rule_train_grpo", "gpu"),
        ("rule_quantize", "gpu"), ("rule_evaluate_gsm8k", "gpu"),
    }  # fmt: skip
    asked = {job["Comment"].split("_wildcards")[0]: job.get("TresPerJob") for job in jobs}
    assert asked["rule_warm_start"] is None
    assert asked["rule_train_grpo"] == asked["rule_quantize"] == asked["rule_evaluate_gsm8k"] == "gres:gpu:fake:1"
    # Slurm's own logs lie in one place, and a second run has nothing to do.
    assert len(list((here.folder / "logs" / "slurm").rglob("*.log"))) == len(jobs)
    status, text = here.run()
    assert status == 0
    assert "Nothing to be done" in text


def test_a_job_with_two_gpus_runs_once_and_sees_both(place):
    here = place(resources={"prepare": {"gpus": 2}})
    status, text = here.run(here.base)
    assert status == 0, text
    record = here.record("warm_start", "base")
    devices = [device["uuid"] for device in record["energy"]["devices"] if device.get("uuid")]
    assert len(devices) == 2, json.dumps(record["energy"])[:2000]
    log = (here.folder / "results/tiny/logs/warm_start/base.log").read_text()
    assert log.count("command: ") == 1


def test_two_studies_at_once(place):
    one, two = place(study="one"), place(study="two")
    runs = [one.start(one.base), two.start(two.base)]
    for run in runs:
        assert run.finish() == 0, run.text
    assert one.record("warm_start", "base")["study"] == "one"
    assert two.record("warm_start", "base")["study"] == "two"
    assert not set(runs[0].submitted()) & set(runs[1].submitted())

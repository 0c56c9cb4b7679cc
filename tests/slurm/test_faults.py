"""What goes wrong on a cluster: the run goes on by itself, or ends with the reason and goes on when started again."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = pytest.mark.slurm

TRAINED = "results/tiny/records/train_grpo/grpo-s0.json"


def states(place, run):
    """State and memory of each Slurm job of a run, in the order of submission."""
    jobs = [place.cluster.job(job) for job in run.submitted()]
    return [(job["JobState"], job["MinMemoryNode"]) for job in jobs]


def running(place, run, rule="warm_start"):
    """Wait until a job of the rule runs its script; ids of job and process."""
    job = run.first(rule)
    place.cluster.wait(lambda: place.process(f"{rule}.py") is not None, f"job {job} runs {rule}.py")
    return job, place.process(f"{rule}.py")


def test_a_job_that_exceeds_its_memory_is_retried_with_more(place):
    here = place(resources={"prepare": {"mem_mb": 500}})
    status, text = here.run(here.base)
    assert status == 0, text
    *failed, last = states(here, here.runs[0])
    assert failed
    assert failed[0][1] == "500M"
    assert all(state in ("FAILED", "OUT_OF_MEMORY") for state, _ in failed)
    assert last == ("COMPLETED", f"{(len(failed) + 1) * 500}M")


def test_a_training_over_its_time_limit_goes_on_from_its_last_checkpoint(place):
    train = {"max_steps": 40, "save_steps": 2, "zero_variance_patience_steps": 1000}
    here = place(base=True, train=train)
    run = here.start(TRAINED)
    job, process = running(here, run, "train_grpo")
    work = here.folder / "results/tiny/work/train_grpo/grpo-s0"
    here.cluster.wait(lambda: any(work.glob("checkpoint-*/complete")), "a checkpoint is written")
    os.kill(process, signal.SIGSTOP)  # the time passes without a step
    assert here.cluster.job(job)["TimeLimit"] == "00:05:00"
    here.cluster.ask("scontrol", "update", f"jobid={job}", "timelimit=1")  # the shortest that Slurm knows
    assert run.finish() == 0, run.text
    first, second = (here.cluster.job(each) for each in run.submitted())
    assert first["JobState"] == "TIMEOUT"
    assert (second["JobState"], second["TimeLimit"]) == ("COMPLETED", "00:10:00")
    metrics = here.record("train_grpo", "grpo-s0")["metrics"]
    assert metrics["steps"] == 40
    assert metrics["resumed_from_step"] >= 2


def test_a_job_that_somebody_cancels_is_seen_and_made_again(place):
    here = place()
    run = here.start(here.base)
    job, _ = running(here, run)
    here.cluster.ask("scancel", job)
    assert run.finish() == 0, run.text
    assert [state for state, _ in states(here, run)] == ["CANCELLED", "COMPLETED"]
    assert "CANCELLED" in run.text


def test_a_restart_of_the_controller_is_not_noticed(place):
    here = place()
    run = here.start(here.base)
    running(here, run)
    here.cluster.stop("slurmctld")
    here.cluster.start("slurmctld")
    assert run.finish() == 0, run.text
    assert [state for state, _ in states(here, run)] == ["COMPLETED"]


def test_a_controller_that_is_away_for_40_s_loses_no_job(place):
    here = place()
    run = here.start(here.base)
    job, _ = running(here, run)
    here.cluster.save_state(job)
    here.cluster.stop("slurmctld", signal.SIGKILL)
    time.sleep(40)
    assert run.process.poll() is None, run.text
    here.cluster.start("slurmctld")
    assert run.finish() == 0, run.text
    assert "Slurm does not answer. Its 1 jobs of this run go on" in run.text
    assert "Slurm answers again after" in run.text
    assert [state for state, _ in states(here, run)] == ["COMPLETED"]


def test_a_run_ends_when_slurm_stays_away_and_goes_on_when_started_again(place):
    here = place()
    run = here.start(here.base, GAINWATT_SLURM_OUTAGE_S="5")
    job, _ = running(here, run)
    here.cluster.save_state(job)
    here.cluster.stop("slurmctld", signal.SIGKILL)
    status = run.finish()
    here.cluster.start("slurmctld")
    assert status != 0
    assert "Slurm has not answered for" in run.text
    assert "start the same command again" in run.text
    here.cluster.wait(lambda: not here.cluster.jobs("PENDING,RUNNING,COMPLETING"), "the job ends")
    status, text = here.run(here.base)
    assert status == 0, text
    assert here.record("warm_start", "base")["status"] == "ok"


def test_a_job_that_slurm_has_forgotten_is_made_again(place):
    here = place()
    run = here.start(here.base, GAINWATT_SLURM_UNKNOWN_S="5")
    running(here, run)
    for name in ("slurmctld", "slurmd"):
        here.cluster.stop(name, signal.SIGKILL)
    for pid in here.cluster.left():
        if pid not in here.cluster.daemons():
            os.kill(pid, signal.SIGKILL)
    for path in here.cluster.folder.joinpath("state").iterdir():
        if path.name.startswith("job_state"):
            path.unlink()
    for name in ("slurmctld", "slurmd"):
        here.cluster.start(name)
    assert run.finish() == 0, run.text
    assert "has not known job" in run.text


def test_a_drained_node_is_waited_for_with_the_reason(place):
    here = place()
    here.cluster.ask("scontrol", "update", f"node={here.cluster.node}", "state=drain", "reason=maintenance")
    run = here.start(here.base)
    job = run.first("warm_start")
    here.cluster.wait(lambda: f"Slurm job {job} waits: " in run.text, "the run says why it waits")
    assert run.process.poll() is None
    here.cluster.ask("scontrol", "update", f"node={here.cluster.node}", "state=resume")
    assert run.finish() == 0, run.text
    assert list(run.submitted()) == [job]


def test_a_refused_submission_ends_with_the_reason_and_the_way_out(place):
    here = place()
    here.copy_profile({"# slurm_partition: cpu": "slurm_partition: nowhere"})
    status, text = here.run(here.base)
    assert status != 0
    assert "invalid partition specified: nowhere" in text
    assert "what to do: the partitions are: cpu, gpu; correct slurm_partition in profiles/slurm/config.yaml" in text
    assert here.runs[0].submitted() == {}


def test_a_killed_run_does_not_submit_its_jobs_twice(place):
    here = place()
    run = here.start(here.base)
    job, _ = running(here, run)
    run.end(signal.SIGKILL)
    status, text = here.run("--unlock")
    assert status == 0, text
    status, text = here.run(here.base)
    assert status != 0
    assert f"1 jobs of an earlier run of this study are still in Slurm's queue: {job}" in text
    assert f"scancel {job}" in text
    here.cluster.wait(lambda: not here.cluster.jobs("PENDING,RUNNING,COMPLETING"), "the job ends")
    status, text = here.run(here.base)
    assert status == 0, text


def test_a_node_without_a_driver_says_so(place, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "libnvidia-ml.so.1").write_bytes(b"no library")
    here = place(resources={"prepare": {"gpus": 1}})
    status, text = here.run(here.base, "--retries", "0", LD_LIBRARY_PATH=str(broken))
    assert status != 0
    assert f"error: {os.uname().nodename} has no working NVIDIA driver" in text

"""The changed Slurm executor (src/gainwatt/cluster/lasting.py) and a stand-in for the plugin that has its defects."""

from __future__ import annotations

import asyncio
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from gainwatt.cluster import lasting, slurm


class Executor:
    """What the plugin's executor does with an answer: nothing at all where there is none."""

    def __init__(self, plugin, prefix="gainwatt", folder="/here"):
        settings = SimpleNamespace(jobname_prefix=prefix)
        self.workflow = SimpleNamespace(executor_settings=settings, workdir_init=folder)
        self.logger = logging.getLogger("executor")
        self.run_uuid = "gainwatt-tiny_1"
        self.next_seconds_between_status_checks = 180
        self.plugin = plugin
        self.done, self.failed = [], {}
        self.__post_init__()

    def __post_init__(self):
        self.ready = True

    def report_job_success(self, job_info):
        self.done.append(job_info.external_jobid)

    def report_job_error(self, job_info, msg=None, **_):
        self.failed[job_info.external_jobid] = msg

    async def check_active_jobs(self, active_jobs):
        states, _ = await self.plugin.query_job_status("squeue", self.logger)
        for job in active_jobs if states is not None else []:
            state = states.get(job.external_jobid)
            if state == "COMPLETED":
                self.report_job_success(job)
            elif state in ("CANCELLED", "FAILED"):
                self.report_job_error(job, msg=f"status is: '{state}'")
            else:
                yield job


@pytest.fixture
def plugin(monkeypatch):
    """The changed stand-in; `answers` are what Slurm says next, None for no answer."""
    module = ModuleType(lasting.PLUGIN)
    module.Executor = type("Executor", (Executor,), {name: getattr(Executor, name) for name in vars(Executor)})
    module.answers = []

    async def query_job_status(command, logger):
        answer = module.answers.pop(0)
        return (None, None) if answer is None else (answer, 0.1)

    module.query_job_status = query_job_status
    monkeypatch.setitem(sys.modules, lasting.PLUGIN, module)
    monkeypatch.setattr(slurm, "queue", lambda *_: [])
    lasting.install("tiny")
    return module


def jobs(*ids):
    return [SimpleNamespace(external_jobid=each) for each in ids]


def check(executor, active):
    async def collect():
        return [job async for job in executor.check_active_jobs(active)]

    return [job.external_jobid for job in asyncio.run(collect())]


def test_jobs_outlast_a_slurm_that_does_not_answer(plugin, caplog):
    executor = plugin.Executor(plugin)
    plugin.answers = [{"1": "RUNNING"}, None, None, {"1": "COMPLETED", "2": "RUNNING"}]
    active = jobs("1", "2")
    for _ in range(3):
        assert check(executor, active) == ["1", "2"]
    assert check(executor, active) == ["2"]
    assert executor.done == ["1"]
    said = [record.message for record in caplog.records]
    assert sum("Slurm does not answer. Its 2 jobs of this run go on" in text for text in said) == 1
    assert sum("Slurm answers again" in text for text in said) == 1


def test_a_run_ends_when_slurm_is_away_for_too_long(plugin, monkeypatch):
    executor = plugin.Executor(plugin)
    plugin.answers = [None, None]
    now = [0.0]
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now[0])
    assert check(executor, jobs("7")) == ["7"]
    now[0] = lasting.OUTAGE_LIMIT_S + 1
    with pytest.raises(WorkflowError, match="has not answered for 3601 s") as caught:
        check(executor, jobs("7"))
    assert "(7) may go on" in str(caught.value)


def test_a_job_that_slurm_does_not_know_any_more_fails(plugin, monkeypatch):
    executor = plugin.Executor(plugin)
    now = [0.0]
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now[0])
    plugin.answers = [{"2": "RUNNING"}] * 3
    active = jobs("1", "2")
    assert check(executor, active) == ["1", "2"]
    now[0] = lasting.UNKNOWN_LIMIT_S - 1
    assert check(executor, active) == ["1", "2"]
    now[0] = lasting.UNKNOWN_LIMIT_S + 1
    assert check(executor, active) == ["2"]
    assert "has not known job 1 for 300 s" in executor.failed["1"]


def test_a_job_that_appears_late_is_not_lost(plugin, monkeypatch):
    executor = plugin.Executor(plugin)
    now = [0.0]
    monkeypatch.setattr(lasting.time, "monotonic", lambda: now[0])
    plugin.answers = [{}, {"1": "PENDING"}, {}]
    for later in (0.0, 299.0, 320.0):
        now[0] = later
        assert check(executor, jobs("1")) == ["1"]
    assert executor.failed == {}


def test_sacct_says_who_cancelled(plugin):
    executor = plugin.Executor(plugin)
    plugin.answers = [{"1": "CANCELLED by 1000"}]
    assert check(executor, jobs("1")) == []
    assert executor.failed == {"1": "status is: 'CANCELLED'"}


def test_polls_are_not_far_apart(plugin):
    executor = plugin.Executor(plugin)
    plugin.answers = [{}]
    check(executor, jobs("1"))
    assert executor.next_seconds_between_status_checks == lasting.LONGEST_POLL_S


def test_jobs_bear_the_name_of_the_study(plugin):
    assert plugin.Executor(plugin).workflow.executor_settings.jobname_prefix == "gainwatt-tiny"
    assert lasting.job_prefix("", "qwen2.5-1.5b") == "gainwatt-qwen2-5-1-5b"
    assert len(lasting.job_prefix("a" * 40, "b" * 60)) == 50


def test_jobs_of_an_earlier_run_stop_a_second_one(plugin, monkeypatch):
    left = [
        slurm.QueuedJob("12", "gainwatt-tiny_8f", "RUNNING", "/here", "None"),
        slurm.QueuedJob("13", "gainwatt-tiny_8f", "PENDING", "/elsewhere", "Priority"),
        slurm.QueuedJob("14", "gainwatt-tiny-2_8f", "PENDING", "/here", "Priority"),
    ]
    monkeypatch.setattr(slurm, "queue", lambda *_: left)
    with pytest.raises(WorkflowError, match=r"1 jobs of an earlier run .* queue: 12"):
        plugin.Executor(plugin)


def test_it_is_said_once_why_all_jobs_wait(plugin, monkeypatch, caplog):
    executor = plugin.Executor(plugin)
    waiting = slurm.QueuedJob("1", "n", "PENDING", "/here", "ReqNodeNotAvail, UnavailableNodes:n1")
    usual = slurm.QueuedJob("2", "n", "PENDING", "/here", "Priority")
    monkeypatch.setattr(slurm, "queue", lambda *_: [waiting, usual])
    plugin.answers = [{"1": "PENDING", "2": "PENDING"}] * 2
    for _ in range(2):
        check(executor, jobs("1", "2"))
    assert [r.message for r in caplog.records] == ["Slurm job 1 waits: ReqNodeNotAvail, UnavailableNodes:n1"]


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        ("sbatch: error: invalid partition specified: x", "the partitions are: cpu, gpu; correct slurm_partition"),
        ("Invalid account or account/partition combination specified", "correct slurm_account"),
        ("Batch job submission failed: Requested node configuration is not available", "lower the study's"),
        ("Batch job submission failed: Invalid generic resource (gres) specification", "correct gpu_model"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "lower runtime_min"),
        ("Unable to contact slurm controller (connect failure)", "start the same command again"),
    ],
)
def test_a_refused_submission_says_what_to_do(plugin, monkeypatch, refusal, hint):
    monkeypatch.setattr(slurm, "_ask", lambda *_: "gpu\ncpu\ngpu\n")
    executor = plugin.Executor(plugin)
    executor.report_job_error(jobs("1")[0], msg=f"SLURM sbatch failed. The error message was '{refusal}'.\n")
    assert f"what to do: {hint}" in executor.failed["1"] or hint in executor.failed["1"]
    executor.report_job_error(jobs("2")[0], msg="SLURM sbatch failed. Something else.\n")
    assert executor.failed["2"] == "SLURM sbatch failed. Something else.\n"


def test_without_the_plugin_nothing_happens(monkeypatch):
    monkeypatch.delitem(sys.modules, lasting.PLUGIN, raising=False)
    lasting.install("tiny")
    assert lasting.PLUGIN not in sys.modules


def test_programs_that_are_not_there_answer_nothing(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.queue() is None
    assert "`sinfo` lists the partitions" in (slurm.way_out("invalid partition") or "")

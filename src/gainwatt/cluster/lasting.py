"""Keep Snakemake's Slurm executor from waiting for ever.

snakemake-executor-plugin-slurm 2.8.0 forgets its jobs when Slurm's controller does not answer during one round of
questions (its issue 207 describes the hang), takes sacct's "CANCELLED by 0" for a job that still runs, keeps waiting
for a job that Slurm no longer knows, and after a killed run submits jobs again that are still in the queue. The class
of the executor is changed in place: plain `snakemake --profile profiles/slurm` then ends, or goes on, by itself.

Only documented methods are wrapped, and each wrapper adds to what the original says: on another version that has cured
these, nothing changes.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from types import ModuleType
from typing import Any

from gainwatt.cluster import slurm

PLUGIN = "snakemake_executor_plugin_slurm"
_QUERY = "query_job_status"
LONGEST_POLL_S = float(os.environ.get("GAINWATT_SLURM_POLL_S", "60"))
"""The plugin's pause between two questions grows to 180 s; a chain of stages would wait that long after each."""
OUTAGE_LIMIT_S = float(os.environ.get("GAINWATT_SLURM_OUTAGE_S", "3600"))
"""A run ends with the reason when Slurm has not answered for so long."""
UNKNOWN_LIMIT_S = float(os.environ.get("GAINWATT_SLURM_UNKNOWN_S", "300"))
"""A job that a Slurm which does answer has not known for so long is lost."""


def install(study: str) -> None:
    """Change the executor's class, where the plugin is loaded; `study` names the run's jobs in the queue."""
    plugin = sys.modules.get(PLUGIN)
    if plugin is None or not hasattr(plugin, "Executor"):
        return
    plugin.Executor.gainwatt_study = study
    if not hasattr(plugin.Executor, "gainwatt_watch"):
        plugin.Executor.gainwatt_watch = None
        _wrap_answers(plugin)
        _wrap_start(plugin.Executor)
        _wrap_reports(plugin.Executor)
        _wrap_check(plugin.Executor)


class Watch:
    """What one executor has been told about its jobs."""

    def __init__(self) -> None:
        self.reported: set[int] = set()
        self.answer: dict[str, str] | None = None
        self.silent_since: float | None = None
        self.unknown_since: dict[str, float] = {}
        self.why_waiting: dict[str, str] = {}

    def silence_s(self, answered: bool) -> float | None:
        """Seconds since Slurm's last answer where it does not answer now; None where it does."""
        now = time.monotonic()
        if answered:
            self.silent_since = None
            return None
        self.silent_since = now if self.silent_since is None else self.silent_since
        return now - self.silent_since

    def lost(self, job: str) -> bool:
        """True where Slurm answers, and has not known the job for too long."""
        if self.answer is None or job in self.answer:
            self.unknown_since.pop(job, None)
            return False
        return time.monotonic() - self.unknown_since.setdefault(job, time.monotonic()) > UNKNOWN_LIMIT_S


def _wrap_answers(plugin: ModuleType) -> None:
    """Remember each answer, and read "CANCELLED by 1000" as CANCELLED."""
    original = getattr(plugin, _QUERY)

    async def query_job_status(command: str, logger: Any) -> Any:
        states, seconds = await original(command, logger)
        if states is not None:
            states = {job: state.split()[0] if state else state for job, state in states.items()}
        plugin.Executor.gainwatt_answer = states
        return states, seconds

    setattr(plugin, _QUERY, query_job_status)


def _wrap_start(executor: Any) -> None:
    """Name the jobs after the study, and refuse to start beside jobs that an earlier run has left in the queue."""
    original = executor.__post_init__

    def post_init(self: Any, *args: Any, **options: Any) -> None:
        settings = self.workflow.executor_settings
        settings.jobname_prefix = job_prefix(settings.jobname_prefix, self.gainwatt_study)
        original(self, *args, **options)
        self.gainwatt_watch = Watch()
        refuse_leftovers(settings.jobname_prefix, str(self.workflow.workdir_init), slurm.queue() or [])

    executor.__post_init__ = post_init


def job_prefix(given: str | None, study: str) -> str:
    """The beginning of every job's name: at most 50 letters, digits, - and _."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{given or 'gainwatt'}-{study}")[:50]


def refuse_leftovers(prefix: str, folder: str, jobs: Iterable[slurm.QueuedJob]) -> None:
    """Raise WorkflowError where jobs of this study, submitted from this folder, are still in the queue."""
    left = [job.id for job in jobs if job.name.startswith(f"{prefix}_") and job.folder == folder]
    if left:
        from snakemake_interface_common.exceptions import WorkflowError

        names = " ".join(left)
        raise WorkflowError(
            f"{len(left)} jobs of an earlier run of this study are still in Slurm's queue: {names}\n"
            f"  what to do: wait until they have ended (what they finish counts), or end them: scancel {names}; "
            "then start the same command again"
        )


def _wrap_reports(executor: Any) -> None:
    """Remember which jobs were reported, and add the way out to a refusal of sbatch."""
    success, failure = executor.report_job_success, executor.report_job_error

    def report_job_success(self: Any, job_info: Any) -> None:
        _note(self, job_info)
        success(self, job_info)

    def report_job_error(self: Any, job_info: Any, msg: str | None = None, **options: Any) -> None:
        _note(self, job_info)
        hint = slurm.way_out(msg) if msg and "sbatch failed" in msg else None
        failure(self, job_info, f"{msg}what to do: {hint}\n" if hint else msg, **options)

    executor.report_job_success, executor.report_job_error = report_job_success, report_job_error


def _note(executor: Any, job_info: Any) -> None:
    if executor.gainwatt_watch is not None:
        executor.gainwatt_watch.reported.add(id(job_info))


def _wrap_check(executor: Any) -> None:
    """Hand back every job that was neither reported nor found running."""
    original: Callable[..., AsyncIterator[Any]] = executor.check_active_jobs

    async def check_active_jobs(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        watch: Watch = self.gainwatt_watch or Watch()  # the first call may come before the executor is complete
        watch.reported = set()
        type(self).gainwatt_answer = None
        running = [job async for job in original(self, active_jobs)]
        watch.answer = type(self).gainwatt_answer
        found = {id(job) for job in running} | watch.reported
        _judge_silence(self, watch, active_jobs)
        for job in active_jobs:
            if id(job) in watch.reported:
                continue
            if id(job) in found and watch.lost(job.external_jobid):
                self.report_job_error(job, msg=_lost(job.external_jobid))
            else:
                yield job
        _tell_waiting(self, watch, running)
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, LONGEST_POLL_S)

    executor.check_active_jobs = check_active_jobs


def _lost(job: str) -> str:
    return (
        f"Slurm answers, and has not known job {job} for {UNKNOWN_LIMIT_S:.0f} s: its end was missed, or Slurm lost "
        "its state. The job is made again; if its work was done, its log says so. "
    )


def _judge_silence(executor: Any, watch: Watch, active_jobs: list[Any]) -> None:
    """Say when Slurm falls silent and when it answers again. Raises WorkflowError when it is silent for too long."""
    was_silent = watch.silent_since
    seconds = watch.silence_s(answered=watch.answer is not None or not active_jobs)
    if seconds is None:
        if was_silent is not None:
            executor.logger.warning(f"Slurm answers again after {time.monotonic() - was_silent:.0f} s.")
        return
    if was_silent is None:
        executor.logger.warning(
            f"Slurm does not answer. Its {len(active_jobs)} jobs of this run go on without it; "
            f"the run asks again at least every {LONGEST_POLL_S:.0f} s, for {OUTAGE_LIMIT_S:.0f} s at most."
        )
    if seconds > OUTAGE_LIMIT_S:
        from snakemake_interface_common.exceptions import WorkflowError

        raise WorkflowError(
            f"Slurm has not answered for {seconds:.0f} s: the run ends here, its jobs "
            f"({' '.join(job.external_jobid for job in active_jobs)}) may go on\n"
            "  what to do: when `squeue` answers again, start the same command again"
        )


def _tell_waiting(executor: Any, watch: Watch, running: list[Any]) -> None:
    """Say once for each job why it waits, where all jobs of the run wait for something that does not pass by itself."""
    if not running or any((watch.answer or {}).get(job.external_jobid) != "PENDING" for job in running):
        return
    for job in slurm.queue(f"--name={executor.run_uuid}") or []:
        usual = job.reason in ("None", "Priority", "Resources", "BeginTime")
        if not usual and watch.why_waiting.get(job.id) != job.reason:
            watch.why_waiting[job.id] = job.reason
            executor.logger.warning(f"Slurm job {job.id} waits: {job.reason}")

"""What a study has used, rule by rule: from its records, and beside them what Slurm's accounting says.

Records hold the jobs that ended well, accounting every attempt: the difference failed, timed out or was repeated.
"""

from __future__ import annotations

import datetime
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.cluster.history import Past
from gainwatt.cluster.lasting import job_prefix

TIMEOUT_S = 60
NO_RULE = "(no comment stored)"
Row = dict[str, Any]


@dataclass(frozen=True)
class Accounted:
    """One job as sacct lists it; `rule` is NO_RULE where the cluster does not store comments."""

    rule: str
    state: str
    seconds: float
    gpus: int


def afterwards(history: Sequence[Past], accounted: Sequence[Accounted] | None) -> list[Row]:
    """One row per rule, and a last one with the sums."""
    rules = list(dict.fromkeys([job.stage for job in history] + [job.rule for job in accounted or ()]))
    counted = counts_gpus(history, accounted)
    rows = []
    for rule in rules:
        of_slurm = None if accounted is None else [job for job in accounted if job.rule == rule]
        rows.append(_row(rule, [job for job in history if job.stage == rule], of_slurm, counted))
    return [*rows, _row("sum", history, accounted, counted)]


def counts_gpus(history: Sequence[Past], accounted: Sequence[Accounted] | None) -> bool:
    """False where records hold jobs with GPUs and the cluster's accounting names no GPU at all: it keeps none."""
    return any(job.gpus for job in accounted or ()) or not any(job.gpus for job in history)


def _row(rule: str, jobs: Sequence[Past], accounted: Sequence[Accounted] | None, counted: bool) -> Row:
    metered = [job for job in jobs if job.gross_j is not None]
    net = [job.net_j for job in metered if job.net_j is not None]
    row: Row = {
        "rule": rule,
        "records": len(jobs),
        "hours": sum(job.seconds or 0.0 for job in jobs) / 3600,
        "gpu_hours": sum((job.seconds or 0.0) * job.gpus for job in jobs) / 3600,
        "gross_j": sum(job.gross_j or 0.0 for job in metered) if metered else None,
        "net_j": sum(net) if net and len(net) == len(metered) else None,
        "metered": f"{len(metered)} of {len(jobs)}",
    }
    if accounted is not None:
        done = [job for job in accounted if job.state == "COMPLETED"]
        row |= {
            "slurm_jobs": len(accounted),
            "slurm_not_completed": len(accounted) - len(done),
            "slurm_gpu_hours": sum(job.seconds * job.gpus for job in accounted) / 3600 if counted else None,
            "slurm_hours": sum(job.seconds for job in accounted) / 3600,
        }
    return row


def ask_sacct(study: str, since: datetime.date, prefix: str | None = None) -> tuple[list[Accounted] | None, str | None]:
    """The study's jobs since a day, or None and the reason why accounting does not say."""
    command = ["sacct", "-X", "-P", "-n", "-S", since.isoformat(), "-E", "now",
               "--format=JobName%100,Comment%200,State,ElapsedRaw,AllocTRES%200"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError:
        return None, "there is no sacct on this machine"
    except subprocess.TimeoutExpired:
        return None, f"sacct has not answered for {TIMEOUT_S} s"
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        return None, f"sacct does not answer: {said}"
    return parse_sacct(done.stdout, job_prefix(prefix, study)), None


def parse_sacct(text: str, prefix: str) -> list[Accounted]:
    """Jobs whose name is `prefix`_<run>, from lines JobName|Comment|State|ElapsedRaw|AllocTRES."""
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) == 5 and fields[0].startswith(f"{prefix}_"):
            rule = re.match(r"rule_(\w+?)(?:_wildcards_|$)", fields[1])
            gpus = re.search(r"gres/gpu=(\d+)", fields[4])
            seconds = float(fields[3]) if fields[3].isdigit() else 0.0
            state = fields[2].split()[0] if fields[2].split() else ""
            found.append(Accounted(rule[1] if rule else NO_RULE, state, seconds, int(gpus[1]) if gpus else 0))
    return found

"""Questions to Slurm's own programs, and what to do about its refusals."""

from __future__ import annotations

import getpass
import re
import subprocess
from dataclasses import dataclass

TIMEOUT_S = 30
SETTINGS = "profiles/slurm/config.yaml"
WAYS_OUT = {
    r"invalid partition": "{partitions}; correct slurm_partition in {settings}",
    r"invalid account|account/partition combination":
        "correct slurm_account in {settings} (`sacctmgr show assoc user=$USER` lists yours)",
    r"invalid qos": "correct qos or slurm-qos in {settings}",
    r"invalid generic resource|invalid gres":
        "correct gpu_model in {settings} (`sinfo -o '%P %G'` lists the GPUs)",
    r"invalid feature": "correct constraint in {settings} (`sinfo -o '%P %f'` lists the features)",
    r"node configuration is not available|node count specification|memory specification|more processors":
        "no node of the partition is as large as the job asks (`sinfo -o '%P %c %m %G'` lists them): lower the study's "
        "resources, or name another partition or gpu_model in {settings}",
    r"time limit":
        "the partition allows less time: lower runtime_min in the study's resources, or name another in {settings}",
    r"unable to contact|socket timed out|connection refused":
        "Slurm's controller does not answer: when it does, start the same command again",
}  # fmt: skip
"""What sbatch says -> what to do about it."""


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue: id, name, state, the folder it was submitted from, and why it waits."""

    id: str
    name: str
    state: str
    folder: str
    reason: str


def queue(*options: str) -> list[QueuedJob] | None:
    """The user's jobs that have not ended; None where Slurm does not answer."""
    text = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%j|%T|%Z|%r", *options)
    if text is None:
        return None
    rows = [line.split("|") for line in text.splitlines()]
    return [QueuedJob(*row[:5]) for row in rows if len(row) >= 5]


def way_out(refusal: str) -> str | None:
    """What to do about a message of sbatch; None for one that is not known."""
    for pattern, hint in WAYS_OUT.items():
        if re.search(pattern, refusal, re.IGNORECASE):
            partitions = _partitions() if "{partitions}" in hint else ""
            return hint.format(partitions=partitions, settings=SETTINGS)
    return None


def _partitions() -> str:
    text = _ask("sinfo", "--noheader", "--format=%R")
    names = sorted(set(text.split())) if text else []
    return f"the partitions are: {', '.join(names)}" if names else "`sinfo` lists the partitions"


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None

"""A Slurm of one machine for tests: munged, slurmctld and slurmd below one folder, on loopback, with make-believe GPUs.

Every daemon is a child of this process and dies with it; a process beside it ends what they leave, jobs and runs,
even where this one is killed. The node claims more processors and memory than the machine has, so that placement can be
tested; memory limits are enforced by polling, as without cgroups.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel", "sacct")
SEARCHED = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
DAEMONS = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")
PATIENCE_S = 300.0
"""How long anything may take that takes seconds on an idle machine."""
BORROWED = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
"""Character devices that stand for GPUs where none can be made."""


def missing() -> list[str]:
    """Programs of Slurm that are not on this machine."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _free_ports(count: int) -> list[int]:
    """Free ports below those that the system hands out for connections, which may come to be used at any moment."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [] if port in found else [port]
    return found


_REAPER = """
import os, pathlib, shutil, signal, sys, time
folder = sys.argv[1]
sys.stdin.read()  # ends with the process that started this one
for _ in range(10):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                named = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                found += [int(entry.name)] if folder.encode() in named else []
            except OSError:
                pass
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if not found:
        break
    time.sleep(0.2)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Ends every process whose command line or environment names the cluster's folder, and removes the folder."""


class Cluster:
    """Start with `with Cluster(folder) as cluster`; programs find it through `cluster.environment`."""

    def __init__(self, folder: Path, *, cpus: int = 8, memory_mb: int = 16000, gpus: int = 2) -> None:
        self.folder = folder
        self.node = socket.gethostname().partition(".")[0]
        self.cpus, self.memory_mb, self.gpus = cpus, memory_mb, gpus
        self._ports = tuple(_free_ports(3))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def configuration(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What to add to the environment: the wrappers in bin/ know the configuration.

        SLURM_CONF alone would not do: it is taken out of the environment of the srun inside a job.
        """
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def __enter__(self) -> Cluster:
        self._reaper = subprocess.Popen(
            [sys.executable, "-c", _REAPER, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        for name in ("bin", "state", "spool", "log", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        self._write_programs()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        try:
            self._start_munge()
            self._start_accounting()
            self.start("slurmctld")
            self.start("slurmd")
            self.wait(lambda: self.node_state() == "idle", "the node becomes idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self._running:
            with contextlib.suppress(subprocess.SubprocessError):
                self.ask("scancel", "--quiet", f"--user={os.getuid()}")
                self.wait(lambda: not self.ask("squeue", "-h", "-o", "%i"), "the jobs end", seconds=15)
        for name in DAEMONS:
            self.stop(name)
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait(timeout=30)

    def left(self) -> list[int]:
        """Processes of this cluster that still run: its daemons and what they started."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    named = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    inside = str(self.folder).encode() in named
                    slurm = (entry / "comm").read_text().strip() in (*DAEMONS, "slurmstepd")
                    if inside and (slurm or b"SLURM_JOB_ID=" in named):
                        found.append(int(entry.name))
        return found

    def daemons(self) -> list[int]:
        """Process ids of the daemons that run."""
        return [daemon.pid for daemon in self._running.values()]

    def start(self, name: str) -> None:
        """Start slurmctld or slurmd."""
        self._spawn(name, "-D", "-f", str(self.configuration))
        if name == "slurmctld":
            self.wait(lambda: bool(self.ask("sinfo", "-h", "-o", "%T")), "slurmctld answers")

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a daemon; does nothing where it does not run."""
        daemon = self._running.pop(name, None)
        if daemon is not None:
            daemon.send_signal(number)
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, program: str, *options: str) -> str:
        """Output of one of Slurm's programs; empty where it fails."""
        done = subprocess.run(
            [str(self.folder / "bin" / program), *options], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def node_state(self) -> str:
        return self.ask("sinfo", "-h", "-o", "%T").partition("\n")[0]

    def jobs(self, state: str = "all") -> list[str]:
        """Ids of the jobs in a state, oldest first; those that have ended count as well."""
        return self.ask("squeue", "-h", "-S", "i", "-t", state, "-o", "%i").split()

    def job(self, job: str) -> dict[str, str]:
        """What scontrol says of a job."""
        words = self.ask("scontrol", "-o", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def save_state(self, job: str) -> None:
        """Wait until the controller has written what it knows of a job, as it does within 5 s of every change.

        One that is killed before that starts the job a second time when it comes back, and drains the node because the
        job is still there: that is a loss of Slurm's own, and not an outage.
        """
        changed = time.time()
        self.ask("scontrol", "update", f"jobid={job}", "admincomment=write")
        state = self.folder / "state" / "job_state"
        self.wait(lambda: state.exists() and state.stat().st_mtime > changed, "the controller writes its state")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            for name, daemon in self._running.items():
                assert daemon.poll() is None, f"{name} ended: {self._log(name)}"
            assert time.monotonic() < deadline, f"waited {seconds} s until {what}: {self._log('slurmctld')}"
            time.sleep(0.2)

    def _spawn(self, name: str, *options: str, **environment: str) -> None:
        program = shutil.which(name, path=SEARCHED)
        assert program is not None, f"there is no {name}"
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads here
                env={**os.environ, "GAINWATT_TEST_CLUSTER": str(self.folder), **environment},
            )  # fmt: skip

    def _start_munge(self) -> None:
        path = self.folder
        self._spawn(
            "munged", "--foreground", "--force", f"--socket={path}/munge.socket", f"--key-file={path}/munge.key",
            f"--pid-file={path}/munged.pid", f"--log-file={path}/log/munged.log", f"--seed-file={path}/munged.seed",
            "--origin=127.0.0.1", "--num-threads=2",
        )  # fmt: skip
        self.wait((path / "munge.socket").exists, "munged opens its socket")

    def _start_accounting(self) -> None:
        """Nothing: without a database Slurm remembers jobs only while its controller knows them."""

    def _accounting(self) -> str:
        """Slurm's settings of it."""
        return "AccountingStorageType=accounting_storage/none"

    def _log(self, name: str) -> str:
        path = self.folder / "log" / f"{name}.out"
        return path.read_text("utf-8", "replace")[-1500:] if path.exists() else "no log"

    def _write_programs(self) -> None:
        for name in PROGRAMS[3:]:
            program = self.folder / "bin" / name
            real = shutil.which(name, path=SEARCHED)
            program.write_text(f'#!/bin/sh\nSLURM_CONF={self.configuration} exec {real} "$@"\n', "utf-8")
            program.chmod(0o755)

    def _devices(self) -> list[str]:
        made = []
        for number in range(self.gpus):
            device = self.folder / "dev" / f"gpu{number}"
            try:
                os.mknod(device, 0o20666, os.makedev(1, 3))
                made.append(str(device))
            except PermissionError:
                return list(BORROWED[: self.gpus])
        return made

    def _write_configuration(self) -> None:
        path, controller, node = self.folder, *self._ports[:2]
        gpus = [f"NodeName={self.node} Name=gpu Type=fake File={device}" for device in self._devices()]
        (path / "gres.conf").write_text("\n".join(["AutoDetect=off", *gpus, ""]), "utf-8")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        self.configuration.write_text(
            f"""ClusterName=tests
SlurmctldHost={self.node}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={path}/munge.socket
SlurmctldPidFile={path}/slurmctld.pid
SlurmdPidFile={path}/slurmd.pid
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=5,sched_interval=5
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
JobRequeue=0
MinJobAge=3600
OverTimeLimit=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
{self._accounting()}
GresTypes=gpu
NodeName={self.node} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory={self.memory_mb} Gres=gpu:fake:{self.gpus}
PartitionName=cpu Nodes={self.node} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={self.node} Default=NO MaxTime=INFINITE State=UP
""",
            "utf-8",
        )

"""Give a job GPUs that no other job of this machine has: `python -m gainwatt.lease --gpus 1 -- COMMAND ...`.

Snakemake counts GPUs and does not say which ones a job may use, so that two jobs would share the first. This takes a
lock of the system (flock) on as many GPUs as asked for, names them in CUDA_VISIBLE_DEVICES, and becomes the command,
which keeps the locks until it and the processes that it forked have ended, by whatever signal. Where all are taken it
waits.

A job of Slurm has been given its GPUs already: there this only checks that the node has a driver. Locks lie in
GAINWATT_LEASES (default: a folder for all users under /tmp); GAINWATT_GPUS, e.g. "0,1", names the GPUs where the driver
is not to be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gainwatt.errors import GainwattError, InputError, UnavailableError

GPUS_VARIABLE = "GAINWATT_GPUS"
FOLDER_VARIABLE = "GAINWATT_LEASES"
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_ID")
_OTHER_MAKERS = ("/dev/kfd",)
_POLL_S = 2.0


def gpus_of_machine(environ: Mapping[str, str]) -> dict[str, str]:
    """GPUs that this process may use: name of the lock -> what CUDA_VISIBLE_DEVICES calls the GPU.

    Raises UnavailableError, in one line, on a machine without a driver and without any GPU that may be used.
    """
    if environ.get(GPUS_VARIABLE):
        return {name: name for name in _names(environ[GPUS_VARIABLE])}
    from gainwatt.energy.select import GpuEntry, resolve

    uuids = _driver_gpus()
    chosen = resolve(environ, [GpuEntry(index, uuid) for index, uuid in enumerate(uuids)])
    given = _names(environ.get("CUDA_VISIBLE_DEVICES", ""))
    if any(name.startswith("MIG-") for name in given):
        return {name: name for name in given}  # a part of a GPU has a lock of its own
    if not chosen.indices:
        raise UnavailableError(f"{platform.node()} offers this job no GPU: {chosen.reason}", _HINT)
    values = given or [str(index) for index in chosen.indices]  # numbers: not every engine understands UUIDs
    return {uuids[index]: value for index, value in zip(chosen.indices, values, strict=False)}


_HINT = "run it where there is one, or set resources.<kind>.gpus: 0 in the study to run on the CPU"


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _driver_gpus() -> list[str]:
    """UUIDs of the GPUs in the driver's order. Raises UnavailableError where there is no working driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            count = pynvml.nvmlDeviceGetCount()
            return [str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(i))) for i in range(count)]
        finally:
            pynvml.nvmlShutdown()
    except Exception as error:  # noqa: BLE001 - the library's errors are many; all mean the same here
        raise UnavailableError(f"{platform.node()} has no working NVIDIA driver ({error})", _HINT) from None


class Lease:
    """Locks on some GPUs; `held` maps a GPU's name to its open lock file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[str, int] = {}

    def take(self, gpus: Sequence[str], count: int) -> list[str] | None:
        """Lock `count` of `gpus`, all or none; None where so many are not free."""
        for name in gpus:
            if len(self.held) == count:
                break
            handle = self._open(name)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
            else:
                self.held[name] = handle
        if len(self.held) == count:
            return list(self.held)
        self.give_back()
        return None

    def give_back(self) -> None:
        """Let the GPUs go."""
        for handle in self.held.values():
            os.close(handle)
        self.held.clear()

    def hand_over(self) -> None:
        """Keep the locks when this process becomes another program."""
        for handle in self.held.values():
            os.set_inheritable(handle, True)

    def _open(self, name: str) -> int:
        path = self.folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.lock"
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY)  # somebody else's, perhaps: a lock needs no right to write
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
        return os.open(path, os.O_RDONLY)


def lease_folder(environ: Mapping[str, str]) -> Path:
    """The folder of the locks, made where it is not there: one for all users of the machine."""
    folder = Path(environ.get(FOLDER_VARIABLE, "/tmp/gainwatt-gpus"))  # noqa: S108 - locks hold nothing; sticky folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.owner() == _user():
            folder.chmod(0o1777)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {folder} for GPU leases: {error.strerror}", f"set {FOLDER_VARIABLE} to another one"
        ) from error
    return folder


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def wait_for(lease: Lease, gpus: Sequence[str], count: int) -> list[str]:
    """Lock `count` of `gpus`, waiting for others to end. Raises InputError where there are not so many at all."""
    if count > len(gpus):
        raise InputError(
            f"the job asks for {count} GPUs and {platform.node()} offers {len(gpus)}: {', '.join(gpus)}",
            "lower resources.<kind>.gpus in the study, or run it on a larger machine",
        )
    told = False
    while True:
        taken = lease.take(gpus, count)
        if taken is not None:
            return taken
        if not told:
            print(f"waiting for {count} of {len(gpus)} GPUs: other jobs have them", file=sys.stderr, flush=True)
            told = True
        time.sleep(_POLL_S * random.uniform(0.5, 1.5))  # noqa: S311 - so that two that wait do not stay in step


def environment_of(count: int, environ: Mapping[str, str], lease: Lease | None = None) -> dict[str, str]:
    """The command's environment, with its GPUs in CUDA_VISIBLE_DEVICES unless Slurm has chosen them."""
    chosen = dict(environ)
    if count == 0 or any(Path(path).exists() for path in _OTHER_MAKERS) or sys.platform == "darwin":
        return chosen
    given_by_slurm = any(name in environ for name in _SLURM)
    gpus = gpus_of_machine(environ)
    if given_by_slurm and len(gpus) < count:
        raise UnavailableError(
            f"the job asks for {count} GPUs and Slurm gave it {len(gpus)} on {platform.node()}",
            "look at `scontrol show job` and at the partition in profiles/slurm/config.yaml",
        )
    if not given_by_slurm:
        taken = wait_for(lease or Lease(lease_folder(environ)), list(gpus), count)
        chosen["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[name] for name in taken)
        if "CUDA_VISIBLE_DEVICES" not in environ:
            chosen["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which the driver counts them
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Command line; returns only where the command could not be started."""
    parser = argparse.ArgumentParser(prog="python -m gainwatt.lease", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--gpus", type=int, required=True, metavar="N", help="how many GPUs the command uses")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its options")
    args = parser.parse_args(argv)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command or shutil.which(command[0]) is None:
        print(f"error: there is no program {command[0] if command else '(nothing given)'}", file=sys.stderr)
        return 127
    try:
        lease = Lease(lease_folder(os.environ)) if args.gpus else None
        environment = environment_of(args.gpus, os.environ, lease)
    except GainwattError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if lease is not None:
        lease.hand_over()
    return _become(command, environment)


def _become(command: list[str], environment: dict[str, str]) -> int:
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the command is the caller's own
    except OSError as error:
        print(f"error: cannot start {command[0]}: {error.strerror}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    raise SystemExit(main())

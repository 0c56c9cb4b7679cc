"""The cluster of the tests with Slurm's accounting: slurmdbd, and MariaDB behind it on a socket of its own."""

from __future__ import annotations

import os
import shutil
import subprocess

from .cluster import SEARCHED, Cluster
from .cluster import missing as missing_of_slurm

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb")
_RIGHTS = (
    "create database slurm_acct_db; create user slurm@localhost identified by 'slurm'; "
    "grant all on slurm_acct_db.* to slurm@localhost"
)


def missing() -> list[str]:
    """Programs of Slurm and of its accounting that are not on this machine."""
    return missing_of_slurm() + [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


class AccountedCluster(Cluster):
    """A `Cluster` whose sacct knows every job and its comment."""

    @property
    def _socket(self) -> str:
        return str(self.folder / "mysql.sock")

    def _accounting(self) -> str:
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={self._ports[2]}\nAccountingStoragePass={self.folder}/munge.socket\n"
            "AccountingStoreFlags=job_comment\nAccountingStorageTRES=gres/gpu"
        )

    def _start_accounting(self) -> None:
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        data = self.folder / "db"
        install = shutil.which("mariadb-install-db", path=SEARCHED)
        assert install is not None
        options = ("--no-defaults", f"--user={user}", f"--datadir={data}", "--innodb-log-file-size=16M")
        subprocess.run(
            [install, *options, "--skip-test-db", "--auth-root-authentication-method=socket",
             f"--auth-root-socket-user={user}"], check=True, capture_output=True, env={**os.environ, "PATH": SEARCHED},
        )  # fmt: skip
        self._spawn(
            "mariadbd", *options, f"--socket={self._socket}", "--skip-networking", f"--pid-file={data}/pid",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        self.wait(lambda: self._sql(user, "select 1"), "MariaDB answers")
        assert self._sql(user, _RIGHTS)
        self._write_slurmdbd(user)
        self._spawn("slurmdbd", "-D", SLURM_CONF=str(self.configuration), MYSQL_UNIX_PORT=self._socket)
        self.wait(lambda: self._answers("sacctmgr", "-n", "list", "cluster"), "slurmdbd answers")

    def _sql(self, user: str, text: str) -> bool:
        program = shutil.which("mariadb", path=SEARCHED)
        assert program is not None
        command = [program, "--no-defaults", "-u", user, "-S", self._socket, "-e", text]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    def _answers(self, *command: str) -> bool:
        program = shutil.which(command[0], path=SEARCHED)
        assert program is not None
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        done = subprocess.run([program, *command[1:]], capture_output=True, check=False, timeout=60, env=environment)
        return done.returncode == 0

    def _write_slurmdbd(self, user: str) -> None:
        path = self.folder / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(
            f"""DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={self._ports[2]}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge.socket
PidFile={self.folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
""",
            "utf-8",
        )

"""One process at a time makes a record: a lock that the system itself takes back when the process dies."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from pathlib import Path
from typing import IO

from gainwatt.disk import naming
from gainwatt.errors import InputError


class RecordLock:
    """Held while a record is made. The file `.NAME.lock` beside the record names the process that holds it.

    A lock of the system (flock), not the mere existence of the file, decides: a killed process leaves no stale lock.
    Where a file system knows no such locks, there is none, and of two processes the last to finish wins.
    """

    def __init__(self, record: Path) -> None:
        self.record = record
        self.path = record.with_name(f".{record.name}.lock")
        self._handle: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock. Raises InputError, naming the other process, where it is held."""
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._handle is None:
                self._try()

    def release(self) -> None:
        """Give the lock back and remove its file; does nothing where it is not held."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._handle.close()
            self._handle = None

    def _try(self) -> None:
        import fcntl

        handle = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            handle.close()
            raise InputError(
                f"{self.record} is being made by {holder}",
                "wait until it has ended, or end it, and run the same command again: it goes on from there",
            ) from None
        except OSError:
            self._handle = handle
            return
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle.fileno()).st_ino == self.path.stat().st_ino:
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                handle.truncate(0)
                handle.write(f"process {os.getpid()} on {platform.node()} since {now}\n")
                handle.flush()
                self._handle = handle
                return
        handle.close()  # its holder removed the file between our opening and our locking it: try once more

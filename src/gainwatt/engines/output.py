"""Reads along with what child processes write to stderr: the reason of their death stands nowhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

KEPT_LINES = 4000


class TappedStderr:
    """While the block runs, everything written to stderr goes through this process, which keeps the last lines.

        with TappedStderr() as output:
            start_a_child()
        ...
        output.lines()

    Children started inside the block keep writing here after it has ended; this process's own stderr is itself again.
    All of it still arrives where stderr goes, in order.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._stderr = -1
        self._read = 0

    def __enter__(self) -> Self:
        sys.stderr.flush()
        self._stderr = os.dup(2)
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(writing)
        threading.Thread(target=self._copy, args=(reading,), name="stderr of the engine", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr.flush()
        os.dup2(self._stderr, 2)

    def settle(self, quiet_s: float = 0.1, patience_s: float = 2.0) -> None:
        """Wait until nothing has been written for a moment: a dying child's last words may be on their way."""
        deadline = time.monotonic() + patience_s
        seen = -1
        while seen != self._read and time.monotonic() < deadline:
            seen = self._read
            time.sleep(quiet_s)

    def lines(self) -> list[str]:
        """The last lines, oldest first, without line ends."""
        return list(self._lines)

    def _copy(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(self._stderr, "wb", buffering=0) as target:
            rest = b""
            while chunk := source.read(65536):
                target.write(chunk)
                self._read += len(chunk)
                *whole, rest = (rest + chunk).split(b"\n")
                self._lines.extend(line.decode(errors="replace") for line in whole)
            self._lines.extend([rest.decode(errors="replace")] if rest else [])

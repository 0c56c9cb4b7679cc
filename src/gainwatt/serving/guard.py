"""Runs a server as the leader of its own process group, and ends it when the process that asked for it is gone.

    python -m gainwatt.serving.guard -- COMMAND …        (standard input: a pipe that the parent keeps open)

The pipe closes when the parent ends, by SIGKILL too: the server is then asked to stop, and after a while its whole
group is killed. A server whose parent was killed would otherwise hold its port and the GPU's memory for good. SIGTERM
to this process asks the server to stop; its exit code is the server's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE_S = 15.0


def main(command: list[str]) -> int:
    """Run `command` until it ends; returns its exit code, 128 + the signal's number where a signal ended it."""
    lifeline = os.dup(0)
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())
    threading.Thread(target=_watch, args=(lifeline, server), daemon=True).start()
    code = server.wait()
    return code if code >= 0 else 128 - code


def _watch(lifeline: int, server: subprocess.Popen[bytes]) -> None:
    while os.read(lifeline, 1):
        pass
    server.terminate()
    deadline = time.monotonic() + PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]))

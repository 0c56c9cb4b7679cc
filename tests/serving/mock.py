"""The scripted server as a context of a test."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gainwatt.serving.requests import Target


@dataclass
class Mock:
    """A running mock server."""

    process: subprocess.Popen
    port: int

    @property
    def target(self) -> Target:
        return Target(f"http://127.0.0.1:{self.port}/v1", "mock")

    def log(self) -> list[dict]:
        """What the server saw, in the order of arrival."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log", timeout=10) as answer:
            return json.load(answer)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def start_mock(*options: str) -> Iterator[Mock]:
    command = [sys.executable, str(Path(__file__).with_name("mock_server.py")), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Mock(process, json.loads(process.stdout.readline())["port"])
        finally:
            process.kill()

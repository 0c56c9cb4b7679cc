"""Start a checkpoint as an OpenAI-compatible server, wait until it answers, and end it without leaving anything.

    with serve(ServerSpec(folder, "bnb-nf4", "transformers"), log=Path("server.log"), ready_s=300) as server:
        ... server.base_url, server.model, server.headers ...
    server.stopped

Leaving the block stops the whole process group and waits for the GPU's memory to come back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gainwatt
from gainwatt.engines.processes import alive, descendants, stop
from gainwatt.errors import GainwattError, InputError
from gainwatt.serving import gpu_memory
from gainwatt.serving.adapters import adapter_for
from gainwatt.serving.adapters.base import Adapter, Address, Start
from gainwatt.serving.ask import ask_json, is_healthy
from gainwatt.serving.facts import complete
from gainwatt.serving.spec import LOOPBACK, ServerSpec

__all__ = ["Server", "ServerError", "ServerSpec", "serve"]

POLL_S = 0.2
STOP_S = 30.0
TAIL_LINES = 25
GRACE_S = 5.0
KEY_VARIABLES = ("GAINWATT_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY", "API_KEY")
"""A server gets its own key or none, never one that stood in the environment for another purpose."""
_TRIES = 3
_TAKEN = ("address already in use", "Address already in use", "EADDRINUSE")


class ServerError(GainwattError):
    """A server did not come up, or went away."""

    exit_code = 5


class Server:
    """A running server. `pids` are its processes as they were when it became ready; `stopped` is filled at the end."""

    def __init__(self, spec: ServerSpec, log: Path, work: Path) -> None:
        self.spec = spec
        self.log = log
        self.model = spec.model
        self.headers = {"Authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}
        self.base_url = ""
        self.command: list[str] = []
        self.pids: list[int] = []
        self.startup_s: float | None = None
        self.stopped: dict[str, Any] = {}
        self._adapter: Adapter = adapter_for(spec.engine)
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, str] = {}
        self._before = gpu_memory.GpuMemory()

    @property
    def address(self) -> Address:
        """Root of the server without /v1, and headers."""
        return Address(self.base_url.removesuffix("/v1"), self.headers)

    @property
    def facts(self) -> dict[str, Any]:
        """What the server is made of, as `gainwatt.serving.facts.complete` describes it; asked anew each time."""
        return complete(self.spec, self._adapter.facts(self.spec, self._lines(), self.address))

    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def alive(self) -> bool:
        """Whether its process runs and its health page answers."""
        return self.running() and is_healthy(self.address.root + self._start.health)

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log, without the API key."""
        return "\n".join(self._lines()[-lines:])

    def prefix_hits(self) -> dict[str, int] | None:
        """Prompt tokens looked up in the cache of earlier prompts (`queries`) and found (`hits`); None if unknown."""
        return self._adapter.prefix_hits(self.address)

    def reset_prefix_cache(self) -> bool:
        """Forget earlier prompts; True where none of them is remembered now."""
        return self._adapter.reset_prefix_cache(self.spec, self.address)

    def start(self, ready_s: float) -> None:
        """Start and wait until the server answers. Raises what `serve` raises."""
        self._before = gpu_memory.in_use()
        for attempt in range(1, _TRIES + 1):
            port = _free_port(self.spec)
            try:
                self._begin(port)
                self._wait(ready_s)
                return
            except ServerError:
                taken = any(text in line for line in self._lines()[-200:] for text in _TAKEN)
                if self.spec.port or not taken or attempt == _TRIES:
                    raise
            self.stop(wait_for_memory=False)

    def _begin(self, port: int) -> None:
        self._start: Start = self._adapter.start(self.spec, port, self._work)
        self.command = self._start.command
        host = LOOPBACK if self.spec.host in ("0.0.0.0", "::", "localhost") else self.spec.host  # noqa: S104
        self.base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
        source = str(Path(gainwatt.__file__).parents[1])
        path = os.pathsep.join([source, *self._start.python_path, *filter(None, [os.environ.get("PYTHONPATH")])])
        inherited = {name: value for name, value in os.environ.items() if name not in KEY_VARIABLES}
        environment = {**inherited, "PYTHONPATH": path, **self._start.environment}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gainwatt.serving.guard", "--", *self.command],
                stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip

    def _wait(self, ready_s: float) -> None:
        assert self._process is not None  # noqa: S101 - set by _begin
        started = time.monotonic()
        while True:
            code = self._process.poll()
            if code is not None:
                raise self._failed(f"ended with code {code} before it was ready")
            if is_healthy(self.address.root + self._start.health) and self._serves():
                break
            if time.monotonic() - started > ready_s:
                raise self._failed(f"was not ready after {ready_s:g} s")
            time.sleep(POLL_S)
        self.startup_s = time.monotonic() - started
        self._family = descendants(self._process.pid)
        self.pids = sorted(self._family)

    def _serves(self) -> bool:
        """Whether the model is offered under its name: somebody else's server would not know it."""
        listed = ask_json(f"{self.base_url}/models", self.headers)
        names = [entry.get("id") for entry in listed.get("data", [])] if isinstance(listed, dict) else []
        return self.model in names

    def _failed(self, what: str) -> Exception:
        # Its last words may still be on their way through the pipe.
        time.sleep(POLL_S)
        lines = self._lines()
        told = self._adapter.failure(lines)
        if told is not None:
            return told
        tail = "\n    ".join(lines[-TAIL_LINES:]) or "(empty)"
        return ServerError(
            f"the {self.spec.engine} server of {self.spec.checkpoint} {what}; the end of {self.log}:\n    {tail}",
            "the reason stands in the log; --ready-s gives a slow start more time",
        )

    def stop(self, *, wait_for_memory: bool = True) -> None:
        """End the process group, and say in `stopped` what came back."""
        process, self._process = self._process, None
        if process is None:
            return
        loaded = gpu_memory.in_use() if wait_for_memory and self._before.reason is None else gpu_memory.GpuMemory()
        started = time.monotonic()
        family = self._family | descendants(process.pid)
        crashed = process.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = None
        deadline = time.monotonic() + GRACE_S  # helpers of the server end a moment after it
        while code is not None and alive(family) and time.monotonic() < deadline:
            time.sleep(0.05)
        killed = bool(alive(family)) or code is None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        left = stop(family, patience_s=2.0)
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        self.stopped = {
            "clean": not crashed and not killed and not left,
            "ended_by_itself": crashed,
            "exit_code": code,
            "killed": killed,
            "processes_left": left,
            "stop_s": time.monotonic() - started,
        }
        if wait_for_memory:
            self.stopped |= gpu_memory.came_back(self._before, loaded)

    def _lines(self) -> list[str]:
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return (text.replace(self.spec.api_key, "[API key]") if self.spec.api_key else text).splitlines()


@contextlib.contextmanager
def serve(spec: ServerSpec, *, log: Path, ready_s: float) -> Iterator[Server]:
    """Run a server for the length of the block; its output goes to `log`.

    Raises UnavailableError where the engine is not installed, InputError where the checkpoint cannot be loaded or the
    port is taken, MemoryError where memory does not suffice, and ServerError, with the end of the log, where the
    server ends or is not ready after `ready_s` seconds. After the block `Server.stopped` says how it ended, which
    processes are left (none), and whether the GPU's memory came back.
    """
    with tempfile.TemporaryDirectory(prefix="gainwatt-serve-") as work:
        server = Server(spec, log, Path(work))
        try:
            server.start(ready_s)
            yield server
        finally:
            server.stop()


def _free_port(spec: ServerSpec) -> int:
    """The spec's port, or one that is free now. Raises InputError where the address cannot be bound."""
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # Connections of a server that has just ended do not count as one that is there.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((spec.host, spec.port))
        except OSError as error:
            raise InputError(
                f"cannot bind {spec.host}:{spec.port}: {error.strerror or error}",
                "choose another --port (0 takes a free one) or --host",
            ) from error
        return int(trial.getsockname()[1])

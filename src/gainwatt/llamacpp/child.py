"""The handle on a worker process: start it, ask it, end it, and say in a word why it died."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Self

from gainwatt.errors import GainwattError
from gainwatt.llamacpp.arms import Arm
from gainwatt.llamacpp.suites import Prompt
from gainwatt.study.llamacpp import LlamaCpp

COMMAND = [sys.executable, "-m", "gainwatt.llamacpp.worker"]
_ENDS_S = 20.0
# What llama.cpp and its backends print when memory is not enough.
_OOM = ("out of memory", "failed to allocate", "unable to allocate", "cudamalloc failed", "bad_alloc",
        "cannot allocate memory", "not enough memory")  # fmt: skip


class ArmError(GainwattError):
    """An arm cannot be measured: `status` is `oom` or `unavailable`, the text is its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def usable_threads() -> int:
    """CPU threads that this process may use."""
    return len(os.sched_getaffinity(0))


def spec_of(section: LlamaCpp, arm: Arm, file: str, prompts: list[Prompt]) -> dict[str, Any]:
    """What a worker must know to load an arm. Raises ArmError for more threads than there are."""
    threads = arm.threads or usable_threads()
    if threads > usable_threads():
        raise ArmError("unavailable", f"{threads} threads are asked for, and this process may use {usable_threads()}")
    texts: dict[str, list[str]] = {name: [] for name in arm.suites(section)}
    for prompt in prompts:
        if prompt.suite in texts:
            texts[prompt.suite].append(prompt.text)
    return {
        "file": file, "backend": arm.backend, "threads": threads, "gpu_layers": arm.gpu_layers,
        "prompt_batch": arm.prompt_batch, "parallel": arm.parallel, "prompts": texts, "mmap": section.mmap,
        "max_new_tokens": section.max_new_tokens, "ignore_eos": section.ignore_eos, "chat": section.chat,
        "temperature": section.temperature, "seed": section.seed,
    }  # fmt: skip


class Child:
    """A worker process inside a `with` block; its log is kept until the end of the block."""

    def __init__(self, arm: Arm, reply_s: float, command: list[str] | None = None) -> None:
        self._arm = arm
        self._reply_s = reply_s
        self._command = command or COMMAND
        self._buffer = b""
        self.peak_rss_mib: float | None = None

    def __enter__(self) -> Self:
        environment = dict(os.environ)
        if self._arm.backend == "cpu":
            environment |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
        environment.pop("OMP_NUM_THREADS", None)  # the arm says how many
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*self._command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
        )
        try:
            self._read("start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to one request. Raises ArmError where the worker died, gives up, or says it cannot."""
        line = json.dumps({"do": do, **request}) + "\n"
        try:
            assert self._process.stdin is not None  # noqa: S101 - opened as a pipe
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError:
            self._process.wait()
            raise self._death(do) from None
        return self._read(do)

    def _read(self, doing: str) -> dict[str, Any]:
        line = self._line(doing)
        try:
            answer = json.loads(line)
        except ValueError:
            self._process.kill()
            raise ArmError("unavailable", f"the worker answered with no JSON: {line[:200]!r}") from None
        if "error" in answer:
            raise self._refusal(answer["error"], str(answer.get("reason")))
        return dict(answer)

    def _line(self, doing: str) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + self._reply_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                raise ArmError("unavailable", f"llama.cpp gave no answer to {doing!r} within {self._reply_s:g} s")
            part = os.read(descriptor, 1 << 16)
            if not part:
                self._process.wait()
                raise self._death(doing)
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def log(self) -> str:
        """What the process has written to its log so far; the last 64 KiB."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - (1 << 16)))
        return self._log.read().decode(errors="replace")

    def offload(self) -> str | None:
        """What llama.cpp says of the layers that it put on a GPU, e.g. `23/23`; None where it says nothing."""
        found = re.findall(r"offloaded (\d+/\d+) layers to GPU", self.log())
        return found[-1] if found else None

    def _refusal(self, kind: str, reason: str) -> Exception:
        if kind == "load":
            lacks = self._lack_of_memory()
            return ArmError("oom" if lacks else "unavailable", f"{reason}: {lacks or self._last_line()}")
        if kind == "input":
            return ArmError("unavailable", reason)
        if kind == "failed":
            return ArmError("oom" if self._lack_of_memory() else "unavailable", reason)
        return ArmError(kind, reason)

    def _death(self, doing: str) -> ArmError:
        code, lacks = self._process.returncode, self._lack_of_memory()
        if lacks:
            return ArmError("oom", f"llama.cpp ended during {doing!r}: {lacks}")
        if code == -signal.SIGKILL:
            return ArmError("oom", f"the worker was killed during {doing!r}, as the kernel does when memory runs out")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ArmError("unavailable", f"llama.cpp crashed during {doing!r} ({how}): {self._last_line()}")

    def _lack_of_memory(self) -> str | None:
        lines = [line.strip() for line in self.log().splitlines()]
        return next((line for line in reversed(lines) if any(text in line.lower() for text in _OOM)), None)

    def _last_line(self) -> str:
        lines = [line.strip() for line in self.log().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "its log is empty"

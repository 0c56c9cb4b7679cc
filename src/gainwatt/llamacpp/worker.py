"""The process that holds one arm's model: reads a request as a JSON line, writes the answer as a JSON line.

    {"do": "load", …spec}                    {"load_s": …, "facts": {…}}
    {"do": "run", "suite", "kind", "window_s"}   {"groups": […], "peak_rss_mib": …}
    {"do": "bandwidth"}                      {"gb_s": …}

An answer {"error": KIND, "reason": …} says oom, unavailable, input, load (the log says why) or failed. A process of its
own, so that the memory of one arm is its own, and a crash of llama.cpp takes no other arm along.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from gainwatt.errors import GainwattError, InputError, UnavailableError
from gainwatt.llamacpp.engine import Engine, LoadError
from gainwatt.oom import is_out_of_memory


class Worker:
    """Answers requests one after the other."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; errors become answers."""
        try:
            return getattr(self, f"do_{request['do']}")(request)
        except BaseException as error:  # the process that asked decides what to do about it
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return {"error": _kind(error), "reason": _text(error)}

    def do_load(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Load the file and make the context; the seconds are those of this alone."""
        begin = time.monotonic()
        self.engine = Engine(spec)
        return {"load_s": time.monotonic() - begin, "facts": self.engine.facts(), "peak_rss_mib": peak_rss_mib()}

    def do_run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a suite for a window."""
        if self.engine is None:
            raise GainwattError("nothing is loaded")
        groups = self.engine.run(request["suite"], request["kind"], request["window_s"])
        return {"groups": groups, "peak_rss_mib": peak_rss_mib()}

    def do_bandwidth(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read bandwidth of main memory with as many threads as the arm has."""
        from gainwatt.llamacpp.bandwidth import read_bandwidth_gb_s

        return {"gb_s": read_bandwidth_gb_s(int(request["threads"]))}


def _kind(error: BaseException) -> str:
    if is_out_of_memory(error):
        return "oom"
    for kind, known in (("unavailable", UnavailableError), ("input", InputError), ("load", LoadError)):
        if isinstance(error, known):
            return kind
    return "failed"


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, GainwattError) else f"{type(error).__name__}: {error}"


def peak_rss_mib() -> float | None:
    """Most main memory that this process ever held, as the kernel counts it."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        return None
    return None


def main() -> int:
    """Serve requests until the input ends."""
    # llama.cpp may print; the answers get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    try:
        import llama_cpp  # noqa: F401 - so that loading a file is not charged with it

        hello: dict[str, Any] = {"ready": True}
    except (ImportError, OSError, RuntimeError) as error:
        hello = {"error": "unavailable", "reason": f"llama-cpp-python cannot be used: {error}"}
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""No process of an engine outlives the script, however the script ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from factories import ROOT
from gainwatt.engines.processes import descendants, stop

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def started(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline()


def test_children_of_children_are_found_and_ended():
    before = descendants(os.getpid())
    parent, _ = started(PARENT)
    found = {pid: at for pid, at in descendants(os.getpid()).items() if pid not in before}
    while len(found) < 2:
        found = {pid: at for pid, at in descendants(os.getpid()).items() if pid not in before}
    assert parent.pid in found
    assert stop(found, patience_s=0.2) == []
    assert parent.wait(10) == -signal.SIGTERM
    assert not set(found) & set(descendants(os.getpid()))


def test_a_process_that_ignores_sigterm_is_killed():
    process, _ = started(STUBBORN)
    found = {process.pid: descendants(os.getpid())[process.pid]}
    assert stop(found, patience_s=0.2) == []
    assert process.wait(10) == -signal.SIGKILL


def test_a_reused_process_id_is_left_alone():
    process, _ = started(STUBBORN)
    assert stop({process.pid: "another start time"}, patience_s=0.2) == []
    assert process.poll() is None
    process.kill()
    process.wait(10)


ORPHAN = """
import multiprocessing, os, time
from gainwatt.engines.processes import end_with_parent

def work():
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__mp_main__":
    end_with_parent()
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(600)
"""


def test_a_child_ends_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHAN, "utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    child = int(parent.stdout.readline())
    assert child in descendants(parent.pid)
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{child}")

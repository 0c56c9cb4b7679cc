"""What a child writes to stderr arrives where it should, and is known here."""

from __future__ import annotations

import os
import subprocess
import sys

from factories import ROOT

CODE = """
import os, subprocess, sys
from gainwatt.engines.output import TappedStderr
child = "import sys; print('first', file=sys.stderr, flush=True); sys.stdin.read(); sys.stderr.write('last words')"
with TappedStderr() as output:
    os.write(2, b"before the child\\n")
    running = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE)
print("own again", file=sys.stderr, flush=True)
running.stdin.close()
running.wait()
while "last words" not in output.lines():
    pass
print(output.lines())
"""


def test_a_child_is_heard_after_the_block_and_the_own_stderr_is_back():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout.strip() == "['before the child', 'first', 'last words']"
    assert {"before the child", "own again", "first", "last words"} <= set(done.stderr.split("\n"))

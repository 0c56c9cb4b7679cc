"""A full disk, a file that may not grow, a folder that may not be written: two lines, a code, nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess

import pytest

from faults.conftest import COMMANDS

# Bytes that one file may have, small enough to stop each stage at something that it writes.
LIMITS = {
    "prepare_data": 2_000, "warm_start": 50_000, "train_grpo": 50_000, "quantize": 50_000, "evaluate_gsm8k": 400,
    "evaluate_perplexity": 400, "profile_inference": 400, "score_heads": 400, "prune_heads": 400,
    "profile_training": 50_000, "train_sft_control": 50_000, "diagnose_weights": 400, "make_tables": 300,
    "make_figures": 5_000, "validate": 100, "make_report": 5_000,
}  # fmt: skip


def limit(stage):
    size_bytes = LIMITS[stage]

    def before_exec():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

    return before_exec


def says_what_to_do(done, place):
    assert done.returncode == 2, done.stderr
    error = done.stderr[done.stderr.rindex("error: ") :].splitlines()
    assert error[0].startswith("error: could not write "), done.stderr
    assert "results/tiny/" in error[0]
    assert "what to do: check that the folder is writable and that the disk has room" in error[1]
    assert "Traceback" not in done.stderr
    assert not [name for name in place.files() if name.endswith((".tmp", ".old", ".lock"))]


@pytest.mark.faults
@pytest.mark.parametrize("stage", COMMANDS)
def test_a_file_that_may_not_grow(before, stage):
    place = before(stage)
    done = place.run(stage, preexec_fn=limit(stage))
    says_what_to_do(done, place)
    assert not [name for name in place.files() if name.startswith(f"records/{stage}/") and name.endswith(".json")]


def in_own_mounts(*commands: str) -> tuple[str, ...]:
    """A wrapper that runs a command after mounting something that nobody else sees, and that ends with it."""
    words = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
    return (*words, "sh", "-c", " && ".join([*commands, 'exec "$@"']), "sh")


@pytest.fixture
def mounts(fresh):
    """Skip where this process may not mount anything."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    (fresh.folder / "results").mkdir()
    wrap = in_own_mounts(f"mount -t tmpfs -o size=64k tmpfs '{fresh.folder}/results'")
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    return fresh


def test_a_full_disk(mounts):
    done = mounts.run(
        "prepare_data", wrap=in_own_mounts("mount -t tmpfs -o size=4k tmpfs results", "mkdir results/tiny")
    )
    says_what_to_do(done, mounts)
    assert "No space left on device" in done.stderr


def test_a_read_only_folder(mounts):
    (mounts.results / "data").mkdir(parents=True)
    wrap = in_own_mounts("mount --bind results results", "mount -o remount,ro,bind results")
    done = mounts.run("prepare_data", wrap=wrap)
    says_what_to_do(done, mounts)
    assert "Read-only file system" in done.stderr


def test_a_file_where_a_folder_should_be(fresh):
    (fresh.folder / "results").mkdir()
    fresh.results.write_text("")
    done = fresh.run("prepare_data")
    assert done.returncode == 2
    assert "error: could not write results/tiny/" in done.stderr
    assert "Not a directory" in done.stderr

"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from factories import ROOT
from gainwatt.atomic import atomic_folder, atomic_path, write_json, write_text
from gainwatt.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_and_makes_folders(tmp_path):
    target = tmp_path / "a" / "b" / "file.txt"
    write_text(target, "one")
    write_text(target, "zwei ü")
    assert target.read_text("utf-8") == "zwei ü"
    assert names(target.parent) == ["file.txt"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write_text(tmp_path / "file", "x")
    (tmp_path / "other").write_text("x")
    mode = stat.S_IMODE((tmp_path / "file").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path, failure):
    target = tmp_path / "file"
    write_text(target, "old")

    def write_half():
        with atomic_path(target) as path:
            path.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_exception_leaves_the_old_folder_and_no_temporary(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")

    def write_half():
        with atomic_folder(target) as folder:
            (folder / "b").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_half()
    assert names(target) == ["a"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("a", "b"):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / name).write_text(name)
            (folder / "inner" / name).chmod(0o600)
    assert names(tmp_path / "folder" / "inner") == ["b"]
    (tmp_path / "plain").write_text("")
    plain = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "folder" / "inner" / "b").stat().st_mode) == plain


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # permissions do not hold root back; the process file system does
        closed = Path("/proc/self")
    for write in (lambda: write_text(closed / "file", "x"), lambda: atomic_folder(closed / "file").__enter__()):
        with pytest.raises(InputError, match=f"could not write .*{closed / 'file'}") as caught:
            write()
        assert "writable" in caught.value.hint


@pytest.mark.parametrize("write", [lambda p: write_text(p, "x"), lambda p: atomic_folder(p).__enter__()])
def test_a_parent_that_is_a_file_is_named(tmp_path, write):
    (tmp_path / "parent").write_text("")
    with pytest.raises(InputError, match=str(tmp_path / "parent" / "target")) as caught:
        write(tmp_path / "parent" / "target")
    assert "writable" in caught.value.hint


def test_json_is_sorted_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "a": "ü",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["b"] == 1


FULL_DISK = """
import resource, signal, sys
from gainwatt.atomic import write_text
from gainwatt.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(sys.argv[1], "x" * 100_000)
except InputError as error:
    print(error)
    raise SystemExit(7)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert f"could not write {target}: File too large" in done.stdout
    assert "room" in done.stdout
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]

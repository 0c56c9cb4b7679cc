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
from gainwatt import atomic
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


LEAVE = """
import os, signal, sys
from pathlib import Path
from gainwatt.atomic import atomic_folder, atomic_path
make = atomic_folder if sys.argv[2] == "folder" else atomic_path
with make(Path(sys.argv[1])) as path:
    (path / "half" if path.is_dir() else path).write_text("half")
    if sys.argv[3] == "wait":
        print("ready", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leaver(target, kind, how="now"):
    return subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(target), kind, how],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, kind):
    target = tmp_path / "target"
    with leaver(target, kind) as process:
        process.wait()
    (left,) = names(tmp_path)
    assert left.startswith(".target.")
    assert left.endswith(".tmp")
    if kind == "file":
        write_text(target, "whole")
    else:
        with atomic_folder(target) as folder:
            (folder / "whole").touch()
    assert names(tmp_path) == ["target"]


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    target = tmp_path / "target"
    with leaver(target, "file", "wait") as process:
        assert process.stdout.readline() == "ready\n"
        write_text(target, "mine")
        assert len(names(tmp_path)) == 2
        process.stdin.close()
    assert target.read_text() == "mine"


def test_what_another_machine_writes_is_left_for_a_day(tmp_path):
    left = tmp_path / ".target.elsewhere-12-345.abc.tmp"
    left.touch()
    unrelated = tmp_path / ".target.x.tmp"
    unrelated.touch()
    write_text(tmp_path / "target", "a")
    assert left.exists()
    os.utime(left, (0, 0))
    write_text(tmp_path / "target", "b")
    assert names(tmp_path) == [unrelated.name, "target"]


def test_a_process_number_used_again_is_not_the_process(tmp_path):
    own = atomic._prefix(tmp_path / "target")
    other = own.rpartition("-")[0] + "-1.x.tmp"
    (tmp_path / other).touch()
    write_text(tmp_path / "target", "a")
    assert names(tmp_path) == ["target"]


def old_folder(path):
    with atomic_folder(path) as folder:
        (folder / "a").write_text("old")


def test_without_exchange_a_folder_is_set_aside_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    old_folder(tmp_path / "folder")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "b").touch()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["b"]


def test_a_folder_that_was_only_set_aside_is_put_back(tmp_path):
    old_folder(tmp_path / "folder")
    (tmp_path / "folder").rename(tmp_path / f".folder.{atomic._host()}-{2**22 + 1}-1.x.old")
    atomic.sweep(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "a").read_text() == "old"


def test_a_folder_is_there_at_every_moment(tmp_path, monkeypatch):
    """The exchange itself, where this system has it: no moment without the folder, the old one whole until then."""
    old_folder(tmp_path / "folder")
    (tmp_path / "new").mkdir()
    if not atomic._exchange(tmp_path / "folder", tmp_path / "new"):
        pytest.skip("this file system cannot exchange two names")
    assert names(tmp_path / "new") == ["a"]
    seen = []
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda path, **_: seen.append(names(path)))
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "b").touch()
    assert seen == [[]]
    assert names(tmp_path / "folder") == ["b"]


LIBRARIES = """
import resource, sys
from pathlib import Path
from gainwatt.atomic import atomic_folder, atomic_path
from gainwatt.errors import InputError

def torch_file(path):
    import torch
    torch.save(torch.zeros(100_000), path)

def safetensors_file(path):
    import torch
    from safetensors.torch import save_file
    save_file({"a": torch.zeros(100_000)}, path / "model.safetensors")

def tokenizer_file(path):
    from tokenizers import Tokenizer, models
    Tokenizer(models.BPE(vocab={str(i): i for i in range(20_000)}, merges=[])).save(str(path / "tokenizer.json"))

def parquet_file(path):
    import pyarrow as pa
    from pyarrow import parquet
    parquet.write_table(pa.table({"a": [i * 7919 % 10_007 / 3 for i in range(100_000)]}), path)

def figure_file(path):
    import numpy as np
    from matplotlib import image
    image.imsave(path, np.random.default_rng(0).random((400, 400)), format="png")

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
write = globals()[sys.argv[2]]
make = atomic_folder if write in (safetensors_file, tokenizer_file) else atomic_path
try:
    with make(sys.argv[1]) as path:
        write(path)
except InputError as error:
    print(error)
    raise SystemExit(7)
"""


@pytest.mark.parametrize("name", ["torch_file", "safetensors_file", "tokenizer_file", "parquet_file", "figure_file"])
def test_a_full_disk_under_any_library_names_the_file(tmp_path, name):
    target = tmp_path / "target"
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES, str(target), name],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert f"could not write {target}: " in done.stdout
    assert "File too large" in done.stdout or "the disk is full" in done.stdout
    assert "room" in done.stdout
    assert names(tmp_path) == []

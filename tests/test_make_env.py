"""An environment is made once, kept while it is whole, and repaired where it is not; nothing is downloaded."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from factories import ROOT


@pytest.fixture
def place(tmp_path):
    """A working folder with an environment file that pins nothing."""
    folder = tmp_path / "work"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "make_env.sh", folder / "scripts")
    (folder / "envs").mkdir()
    (folder / "envs" / "tiny.txt").write_text("# nothing\n")
    (folder / "src").mkdir()
    return folder


def make(folder, *arguments):
    command = ["bash", "scripts/make_env.sh", *(arguments or ("tiny", sys.executable))]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def said(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_environment_is_kept_updated_and_repaired(place):
    made = place / ".envs" / "tiny"
    assert "(not there yet" in said(make(place))
    (path_file,) = made.glob("lib/python*/site-packages/gainwatt.pth")
    assert path_file.read_text() == f"{place}/src\n"
    assert said(make(place)) == ""
    (place / "envs" / "tiny.txt").write_text("# still nothing\n")
    assert "(made from another envs/tiny.txt" in said(make(place))
    assert said(make(place)) == ""
    (made / "installed").unlink()
    assert "(left unfinished" in said(make(place))
    (made / "bin" / "python").unlink()
    assert "(its Python does not run" in said(make(place))
    moved = place.rename(place.parent / "elsewhere")
    assert "(made at another path" in said(make(moved))
    assert said(make(moved)) == ""


def test_what_is_not_there_is_named(place):
    done = make(place, "tyni")
    assert done.returncode == 2
    assert "there is no envs/tyni.txt" in done.stderr
    assert "choose one of: tiny" in done.stderr


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_a_python_that_cannot_be_used_is_named(place, python):
    done = make(place, "tiny", python)
    assert done.returncode == 2
    assert f"{python} is older than Python 3.11 or does not run" in done.stderr
    assert not (place / ".envs" / "tiny").exists()


def test_a_package_that_cannot_be_had_is_explained(place):
    (place / "envs" / "tiny.txt").write_text("gainwatt-no-such-package==1.0\n")
    (place / ".wheels" / "tiny").mkdir(parents=True)
    done = make(place)
    assert done.returncode != 0
    assert "could not install envs/tiny.txt" in done.stderr
    assert "make wheelhouse NAME=tiny" in done.stderr
    assert not (place / ".envs" / "tiny" / "installed").exists()


def test_a_linked_environment_is_used_and_never_made_anew(place):
    said(make(place))
    other = place.parent / "other"
    shutil.copytree(place, other, ignore=shutil.ignore_patterns(".envs"))
    (other / ".envs").symlink_to(place / ".envs")
    stamp = (place / ".envs" / "tiny" / "pyvenv.cfg").stat().st_mtime_ns
    assert said(make(other)) == ""
    (other / "envs" / "tiny.txt").write_text("# another list\n")
    done = make(other)
    assert done.returncode == 2
    assert f"is a link to {place}/.envs/tiny" in done.stderr
    assert "remove the link" in done.stderr
    assert (place / ".envs" / "tiny" / "pyvenv.cfg").stat().st_mtime_ns == stamp

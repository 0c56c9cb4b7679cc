"""Files that are either whole or absent: temporary file, flush, rename.

A temporary name tells which process made it, so that what a killed process left behind is removed by the next one that
writes the same file, and what another process is writing at this moment is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.disk import naming

_OWNER = re.compile(r"\.(?P<host>[\w-]*)-(?P<pid>\d+)-(?P<start>\d+)\.(?P<random>\w+)\.(?P<kind>tmp|old)$")
# Whether a process of another machine still runs cannot be asked; after a day without a change it is taken as dead.
_FOREIGN_AGE_S = 86_400
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` if the block ends well, remove it if not.

    The data is flushed to the disk before the rename, so that a killed process or a full disk leaves the old file
    (or none), never half of the new one. Where two processes write the same target, the last one to finish wins.
    Raises InputError when the folder cannot be written or the disk is full.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target)
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=".tmp")
            os.close(descriptor)
            temporary = Path(name)
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path | str) -> Iterator[Path]:
    """Like `atomic_path` for a folder: yield a temporary sibling folder, rename it to `target` at the end.

    An existing `target` is replaced as a whole: exchanged in one step where the system can (Linux, most local file
    systems), else set aside first and, should the process die between the two renames, put back by the next one.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target)
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target), suffix=".tmp"))
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file() and not path.is_symlink():  # what a link points to belongs to somebody else
                    path.chmod(0o666 & ~_umask())  # libraries that write through temporary files leave them private
                    _flush(path)
            temporary.chmod(0o777 & ~_umask())
            _put(temporary, target)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `target`, whole or not at all."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Write `value` as JSON (sorted keys, no NaN) to `target`, whole or not at all."""
    write_text(target, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def sweep(target: Path) -> None:
    """Remove what killed processes left of `target`; put back a folder that one of them had only set aside."""
    for path in sorted(target.parent.glob(f".{_escaped(target)}.*-*-*.*")):
        owner = _OWNER.search(path.name)
        if owner is None or _alive(owner, path):
            continue
        if owner["kind"] == "old" and not target.exists():
            path.rename(target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _put(made: Path, target: Path) -> None:
    """Rename the folder `made` to `target`, which may exist."""
    if not target.exists():
        made.rename(target)
    elif not _exchange(made, target):
        aside = made.with_suffix(".old")
        target.rename(aside)
        made.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _prefix(target: Path) -> str:
    return f".{target.name}.{_host()}-{os.getpid()}-{_started(os.getpid())}."


def _escaped(target: Path) -> str:
    return re.sub(r"([*?\[])", r"[\1]", target.name)


def _host() -> str:
    return re.sub(r"[^\w-]", "_", platform.node())[:40]


def _started(pid: int) -> int:
    """When a process started, in clock ticks since boot: a process number alone is used again. 0 where not known."""
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, ValueError, IndexError):
        return 0


def _alive(owner: re.Match[str], path: Path) -> bool:
    """Whether the process that made `path` still runs, as far as this machine can tell."""
    pid = int(owner["pid"])
    if owner["host"] != _host():
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < _FOREIGN_AGE_S
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it runs, and belongs to somebody else
    return _started(pid) in (0, int(owner["start"]))


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""What a full, limited or read-only disk looks like to the libraries that write, said in one way."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gainwatt.errors import GainwattError, InputError

# safetensors and tokenizers raise errors of their own kind with the system's number in the text.
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
# torch's writer tells neither file nor reason, only that less was written than it asked for.
_TORCH_ERROR = re.compile(r"inline_container\.cc|PytorchStreamWriter failed")
_WRITE_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


LEAST_FREE_BYTES = 32 * 2**20
"""A record with the files beside it needs a few MiB; a checkpoint that does not fit is named when it is written."""


def check_room(*folders: Path) -> None:
    """Raise InputError, in one line, where a folder cannot be made or written, or its disk is full."""
    for folder in dict.fromkeys(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise unwritable(folder, f"{error.strerror} (on {platform.node()})") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise unwritable(folder, f"{os.strerror(errno.EACCES)} (on {platform.node()})")
        if free < LEAST_FREE_BYTES:
            room = f"{free / 2**20:.1f} MiB are left on {platform.node()}"
            raise unwritable(folder, f"{os.strerror(errno.ENOSPC)} ({room})")


def write_failure(error: BaseException) -> str | None:
    """The system's reason why something could not be written; None where `error` says no such thing."""
    if isinstance(error, OSError):
        # pyarrow's own errors carry a number only in the text
        return error.strerror or (str(error) if error.errno in _WRITE_ERRORS else None) or _named(str(error))
    if isinstance(error, RuntimeError) and _TORCH_ERROR.search(str(error)):
        return "less was written than asked for: the disk is full, or a file may not become so large"
    return _named(str(error))


def _named(text: str) -> str | None:
    found = _RUST_ERROR.search(text)
    return os.strerror(int(found[1])) if found and int(found[1]) in _WRITE_ERRORS else None


def unwritable(target: Path | str, reason: str) -> InputError:
    """The error that a person sees: which file, why, and what to do."""
    return InputError(
        f"could not write {target}: {reason}",
        "check that the folder is writable and that the disk has room, then run the same command again",
    )


@contextlib.contextmanager
def naming(target: Path | str) -> Iterator[None]:
    """Turn a failure to write into an InputError that names `target`; every other exception passes."""
    try:
        yield
    except GainwattError:
        raise
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise unwritable(target, reason) from error

"""Checkpoints and their manifests: what is evaluated is the saved folder, by hash.

A manifest names every file of a checkpoint with size and SHA-256 and is written last, so that a folder without a
manifest is unfinished. The identity of a checkpoint is the SHA-256 over its sorted file hashes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.errors import InputError, UnavailableError
from gainwatt.record import file_sha256, text_sha256
from gainwatt.weight_files import weight_files

KIND = "gainwatt-checkpoint"
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
WEIGHT_SUFFIXES = (".safetensors", ".gguf")
# Model cards and pickled training arguments say nothing about what the model computes.
_IGNORED_NAMES = {MANIFEST, "README.md", "training_args.bin"}
# What a manifest must hold, by whether there is a checkpoint.
_KEYS = {
    True: ("variant", "scheme", "folder", "sha256", "files", "parent_sha256", "about"),
    False: ("status", "reason", "variant", "scheme"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as its manifest describes it. `folder` is absolute where the files lie elsewhere."""

    variant: str
    scheme: str
    folder: Path
    sha256: str
    files: dict[str, dict[str, Any]]
    parent_sha256: str | None
    about: dict[str, Any]

    @property
    def weight_bytes(self) -> int:
        """Bytes of the files that hold weights; of every such file where the folder is not at hand."""
        here = {path.name for path in weight_files(self.folder)}
        sizes = {name: entry["bytes"] for name, entry in self.files.items() if name.endswith(WEIGHT_SUFFIXES)}
        return sum(size for name, size in sizes.items() if name in here or not here)


def hash_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file that decides what a checkpoint computes.

    Raises InputError when config.json or all files of weights are missing (pickled weights are not accepted).
    """
    names = sorted(
        path
        for path in folder.glob("*")
        if path.is_file() and path.name not in _IGNORED_NAMES and not path.name.startswith(".")
    )
    files = {path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size} for path in names}
    if "config.json" not in files or not any(name.endswith(WEIGHT_SUFFIXES) for name in files):
        raise InputError(
            f"{folder} is not a checkpoint: it must hold config.json and *.safetensors (or *.gguf)",
            "give the folder of a model saved by transformers; pickled weights (*.bin, *.pt) are not read",
        )
    return files


def identity(files: dict[str, dict[str, Any]]) -> str:
    """The checkpoint's SHA-256: over the sorted names and file hashes."""
    return text_sha256(json.dumps({name: entry["sha256"] for name, entry in files.items()}, sort_keys=True))


def write_manifest(
    manifest: Path,
    *,
    variant: str,
    scheme: str,
    folder: Path | None = None,
    parent_sha256: str | None = None,
    about: dict[str, Any] | None = None,
) -> Checkpoint:
    """Hash the checkpoint in `folder` (default: where the manifest lies) and write its manifest.

    Raises InputError for a folder that is no checkpoint or lacks a shard that its index names.
    """
    where = manifest.parent if folder is None else folder.resolve()
    weight_files(where)
    files = hash_folder(where)
    made = Checkpoint(variant, scheme, where, identity(files), files, parent_sha256, about or {})
    content = asdict(made)
    content.update(kind=KIND, schema_version=SCHEMA_VERSION, status="ok", folder="." if folder is None else str(where))
    write_json(manifest, content)
    return made


def write_missing(manifest: Path, *, variant: str, scheme: str, status: str, reason: str) -> None:
    """A manifest that says why there is no checkpoint (`oom`, `unavailable`), for the stages that wait for it."""
    write_json(
        manifest,
        {
            "kind": KIND, "schema_version": SCHEMA_VERSION, "status": status, "reason": reason,
            "variant": variant, "scheme": scheme,
        },
    )  # fmt: skip


def read_manifest(manifest: Path, *, verify: bool = True) -> Checkpoint:
    """Read a manifest and, with `verify`, hash the files again.

    Raises InputError for a missing, truncated or foreign manifest and for files that are not what the manifest says;
    UnavailableError where the checkpoint could not be made on this machine.
    """
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"there is no checkpoint manifest {manifest}", "run the rule that makes the checkpoint"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the checkpoint manifest {manifest}: {error}", "make the checkpoint again"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{manifest} is not a checkpoint manifest of this version", "make the checkpoint again")
    missing = [key for key in _KEYS.get(content.get("status") == "ok", ()) if key not in content]
    if missing:
        raise InputError(f"the checkpoint manifest {manifest} lacks {', '.join(missing)}", "make the checkpoint again")
    if content["status"] != "ok":
        raise UnavailableError(
            f"no {content['scheme']} checkpoint of {content['variant']}: {content['status']}, {content['reason']}"
        )
    folder = manifest.parent if content["folder"] == "." else Path(content["folder"])
    found = Checkpoint(
        content["variant"], content["scheme"], folder, content["sha256"], content["files"],
        content["parent_sha256"], content["about"],
    )  # fmt: skip
    if verify:
        _verify(found, manifest)
    return found


def _verify(checkpoint: Checkpoint, manifest: Path) -> None:
    if not checkpoint.folder.is_dir():
        raise InputError(
            f"{manifest} points to {checkpoint.folder}, which is not there",
            "bring the folder back or make it again",
        )
    files = hash_folder(checkpoint.folder)
    differing = sorted(
        name for name in files.keys() | checkpoint.files.keys() if files.get(name) != checkpoint.files.get(name)
    )
    if differing:
        raise InputError(
            f"the checkpoint in {checkpoint.folder} is not the one that {manifest} describes: {', '.join(differing)} "
            "changed, appeared or went missing",
            "make the checkpoint again, or remove the manifest so that it is made again",
        )


def read_base(path: Path, trained: Checkpoint, trained_path: Path) -> Checkpoint:
    """The base that a checkpoint was trained from. Raises InputError where `path` describes another one."""
    base = read_manifest(path)
    if trained.parent_sha256 not in (None, base.sha256):
        raise InputError(
            f"{trained_path} was trained from another checkpoint than {path} describes",
            "give the manifest of the base that it was trained from",
        )
    return base

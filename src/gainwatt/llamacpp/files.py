"""The GGUF file of each quantization type: found in a folder or repository, or made by llama.cpp, and looked into."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gainwatt import hub
from gainwatt.atomic import atomic_path, write_json
from gainwatt.checkpoint import Checkpoint
from gainwatt.errors import InputError, UnavailableError
from gainwatt.llamacpp.types import TYPES, GgufType
from gainwatt.record import file_sha256
from gainwatt.study.llamacpp import LlamaCpp
from gainwatt.study.model import hub_id, is_hub

KIND = "gainwatt-gguf-files"
MAGIC = b"GGUF"
PLAIN = "plain.gguf"
FOUND = "found"


@dataclass(frozen=True)
class GgufFile:
    """The file of one type, or the reason why there is none. `origin`: found, made, or made from a quantized file."""

    path: str | None
    reason: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    origin: str | None = None
    stored_types: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of the whole file, its vocabulary included, by weight."""
        return 8 * self.bytes / self.parameters if self.bytes and self.parameters else None


def bring(section: LlamaCpp, folder: Path, base: Checkpoint | None, texts: Sequence[str]) -> dict[str, GgufFile]:
    """The file of every type that the study names; what is made or downloaded goes to `folder`.

    `base` is the study's base model where the source is `base`, and `texts` samples on which llama.cpp's tokenizer must
    agree with its own. A type that cannot be had is an entry with its reason; raises InputError for a file that is no
    GGUF file or not of the type that it is named after, and for a source that is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if base is not None:
        return _from_base(section, folder, base, texts)
    found = _found(section, folder)
    files = {name: look_into(path, TYPES[name], FOUND) for name, path in found.items()}
    for name in section.quant_types:
        if name not in files:
            files[name] = _made_again(section, folder, found, TYPES[name])
    return {name: files[name] for name in section.quant_types}


def _from_base(section: LlamaCpp, folder: Path, base: Checkpoint, texts: Sequence[str]) -> dict[str, GgufFile]:
    from gainwatt.quantization.llamacpp import convert

    plain = folder / PLAIN
    with atomic_path(plain) as temporary:
        convert(base, temporary, texts)
    try:
        return {name: _make(plain, folder, TYPES[name], "made") for name in section.quant_types}
    finally:
        plain.unlink(missing_ok=True)


def _made_again(section: LlamaCpp, folder: Path, found: dict[str, Path], wanted: GgufType) -> GgufFile:
    where = f"there is no file {file_name(section.file, wanted)} in {section.source}"
    if section.make_from is None:
        return GgufFile(None, f"{where}, and llamacpp.make_from names no type to make it from")
    source = found.get(section.make_from)
    if source is None:
        return GgufFile(None, f"{where}, and there is none of {section.make_from} to make it from either")
    return _make(source, folder, wanted, f"made from {section.make_from}", again=True)


def _make(source: Path, folder: Path, wanted: GgufType, origin: str, *, again: bool = False) -> GgufFile:
    from gainwatt.quantization.llamacpp import quantize_file

    if not wanted.made:
        return GgufFile(None, f"llama.cpp makes {wanted.label} with an importance matrix only, and none is given")
    target = folder / f"made.{wanted.label}.gguf"
    try:
        with atomic_path(target) as temporary:
            code = quantize_file(source, temporary, wanted.file_type, again=again)
            if code != 0:
                raise UnavailableError(f"llama.cpp could not make {wanted.label} (code {code})")
        return look_into(target, wanted, origin)
    except (UnavailableError, InputError) as error:
        target.unlink(missing_ok=True)
        return GgufFile(None, error.what)


def file_name(pattern: str, wanted: GgufType) -> str:
    """The pattern of a file name with the type put in."""
    return pattern.replace("{TYPE}", wanted.label).replace("{type}", wanted.name)


def _found(section: LlamaCpp, folder: Path) -> dict[str, Path]:
    """Files that are there, by type: those of the study's types and of `make_from`."""
    names = list(dict.fromkeys([*section.quant_types, *([section.make_from] if section.make_from else [])]))
    if is_hub(section.source):
        place = _download(section, folder / "hub", [file_name(section.file, TYPES[name]) for name in names])
    else:
        place = Path(section.source)
    if place.suffix == ".gguf":
        check_magic(place)
        return {section.make_from or section.arm_type: place}
    found = {}
    for name in names:
        matching = sorted(place.glob(file_name(section.file, TYPES[name])))
        if len(matching) > 1:
            raise InputError(
                f"{len(matching)} files of {section.source} could be {name}: {matching[0].name}, {matching[1].name}",
                "give a narrower llamacpp.file",
            )
        if matching:
            found[name] = matching[0]
    if not found:
        raise InputError(
            f"{section.source} holds no file {file_name(section.file, TYPES[names[0]])}",
            "check llamacpp.source and llamacpp.file",
        )
    return found


def _download(section: LlamaCpp, folder: Path, patterns: list[str]) -> Path:
    name = hub_id(section.source)
    unreachable = hub.go_offline_if_unreachable()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=section.revision, local_dir=folder, allow_patterns=patterns))
    except Exception as error:
        wanted = " ".join(f"--include '{pattern}'" for pattern in patterns)
        why = unreachable or f"{type(error).__name__}: {error}"
        raise InputError(
            f"cannot download {name} at revision {section.revision}: {why}",
            f"on a machine with internet run\n    hf download {name} --revision {section.revision} {wanted} "
            "--local-dir models/gguf\n  copy the folder here and add: --set llamacpp.source=models/gguf",
        ) from error


def check_magic(path: Path) -> None:
    """Raise InputError where `path` is no GGUF file."""
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check llamacpp.source") from error
    if start != MAGIC:
        raise InputError(f"{path} is no GGUF file", "give a file that llama.cpp wrote, see llamacpp.source")


def look_into(path: Path, wanted: GgufType, origin: str) -> GgufFile:
    """What a file holds. Raises InputError where it is no GGUF file, or its matrices are of another type."""
    import gguf

    check_magic(path)
    try:
        tensors = gguf.GGUFReader(path).tensors
    except Exception as error:  # the reader stumbles over a truncated file in many ways
        raise InputError(f"{path} is truncated or damaged: {error}", "download or make it again") from error
    matrices = Counter(tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1)
    # Every file holds some matrices of other types; one that was found must have its type's as the commonest.
    kept = {name for name, count in matrices.items() if origin != FOUND or count == max(matrices.values())}
    if not kept & set(wanted.blocks):
        kinds = ", ".join(sorted(matrices)) or "none"
        raise InputError(
            f"{path} is to be {wanted.label}, and its matrices are stored as {kinds}: the widths of the model do not "
            "suit the type, or the file is not what its name says",
            "leave the type out of llamacpp.quant_types, or name the right file",
        )
    return GgufFile(
        str(path), None, file_sha256(path), path.stat().st_size, origin, dict(sorted(matrices.items())),
        int(sum(int(tensor.n_elements) for tensor in tensors)),
    )  # fmt: skip


def write_files(path: Path, files: dict[str, GgufFile]) -> None:
    """Write the list of files, last of all."""
    write_json(path, {"kind": KIND, "files": {name: asdict(entry) for name, entry in files.items()}})


def read_files(path: Path) -> dict[str, GgufFile]:
    """Read the list. Raises InputError where it is missing, foreign, or names a file that has changed since."""
    again = "run scripts/fetch_gguf.py with this study"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"the list of GGUF files {path} does not exist", again) from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the list of GGUF files {path}: {error}", again) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path} is no list of GGUF files", again)
    try:
        files = {name: GgufFile(**entry) for name, entry in content["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}", again) from error
    for name, entry in files.items():
        if entry.path is not None:
            there = Path(entry.path)
            if not there.is_file() or there.stat().st_size != entry.bytes:
                raise InputError(f"the file of {name}, {entry.path}, is missing or has another size", again)
    return files

"""Every record under a study's folder, also those that cannot be trusted, and what the study says should be there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record, file_sha256, read_record
from gainwatt.schemes import SCHEMES
from gainwatt.study import DENSE, Layout, Study
from gainwatt.study.branches import part_records
from gainwatt.tables.stale import Freshness
from gainwatt.validation.items import ItemFacts, item_facts
from gainwatt.validation.shape import misshapen
from gainwatt.workflow import every_record


@dataclass
class Unreadable:
    """A file where a record belongs, and why it cannot be read."""

    file: str
    what: str
    hint: str


def read_folder(results: Path) -> tuple[list[Record], list[Unreadable]]:
    """Every record under `<results>/records`, sorted by path, and the files there that cannot be trusted."""
    records: list[Record] = []
    unreadable: list[Unreadable] = []
    for path in sorted((results / "records").rglob("*.json")):
        if path.name.startswith("."):
            continue  # the temporary file of a job that is writing just now
        file = path.relative_to(results).as_posix()
        try:
            record = read_record(path)
        except RecordError as error:
            unreadable.append(Unreadable(file, error.what, error.hint))
            continue
        wrong = misshapen(record)
        if wrong is not None:
            hint = "remove it and run the rule that makes it again"
            unreadable.append(Unreadable(file, f"the record {path} is damaged: {wrong}", hint))
            continue
        record["path"], record["file"], record["place"] = str(path), file, (path.parent.name, path.stem)
        records.append(record)
    return records, unreadable


@dataclass
class Collected:
    """The records of one study. `records` are those of schema and study; each knows its `path`, `file` and `place`."""

    study: Study
    layout: Layout
    records: list[Record] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    foreign: list[Record] = field(default_factory=list)
    """Readable records of another study."""
    _hashes: dict[Path, str] = field(default_factory=dict)
    _items: dict[str, ItemFacts] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study, layout: Layout) -> Collected:
        """Read every `*.json` under `<results>/records`. A file that cannot be trusted becomes `unreadable`."""
        records, unreadable = read_folder(layout.results)
        own = [record for record in records if record["study"] == study.study]
        foreign = [record for record in records if record["study"] != study.study]
        return cls(study, layout, own, unreadable, foreign)

    def relative(self, path: Path) -> str:
        """The path as findings show it: from the study's results folder on."""
        return (
            path.relative_to(self.layout.results).as_posix() if path.is_relative_to(self.layout.results) else str(path)
        )

    @cached_property
    def expected(self) -> dict[tuple[str, str], Path]:
        """(stage, name) -> path of every record that the study asks for."""
        parts = (self.layout.record(stage, name) for stage, name in part_records(self.study))
        every = (*map(Path, every_record(self.study, self.layout)), *parts)
        return {(path.parent.name, path.stem): path for path in every}

    @cached_property
    def _places(self) -> dict[tuple[str, str], Record]:
        return {self.place(record): record for record in self.records}

    @staticmethod
    def place(record: Record) -> tuple[str, str]:
        """Stage and name of a record, by where it lies."""
        stage, name = record["place"]
        return str(stage), str(name)

    @cached_property
    def checkpoints(self) -> dict[tuple[str, str], str]:
        """(variant, scheme or `dense`) -> SHA-256 of the checkpoint that a record of this study made."""
        made = {}
        for record in self.records:
            sha256, cell = sha_of(record["outputs"], "checkpoint"), record["cell"]
            if sha256 is not None and "variant" in cell:
                made[str(cell["variant"]), str(cell.get("scheme", DENSE))] = sha256
        return made

    def at(self, stage: str, name: str) -> Record | None:
        """The record that lies in a place and is of that stage; None where there is none."""
        record = self._places.get((stage, name))
        return record if record is not None and record["stage"] == stage else None

    def of(self, stage: str, *, ok: bool = True) -> list[Record]:
        """The records of a stage, those with the status ok alone unless told otherwise."""
        return [r for r in self.records if r["stage"] == stage and (not ok or r["status"] == "ok")]

    @cached_property
    def stages(self) -> list[str]:
        """Every stage that has a record."""
        return sorted({record["stage"] for record in self.records})

    @cached_property
    def freshness(self) -> Freshness:
        """Compares the settings of records with those of the study as it is now."""
        return Freshness(self.study)

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file, read once."""
        if path not in self._hashes:
            self._hashes[path] = file_sha256(path)
        return self._hashes[path]

    def sidecar(self, record: Record, name: str) -> Path | None:
        """The file that a record names beside itself, where it exists."""
        file = record["outputs"].get(name, {}).get("file")
        if not isinstance(file, str):
            return None
        path = os.path.join(os.path.dirname(record["path"]), file)  # pathlib is slow, and there may be thousands
        return Path(path) if os.path.isfile(path) else None

    def items(self, record: Record) -> ItemFacts | None:
        """What the per-item table beside a record says; None without one. Raises ValueError for a broken one."""
        if record["path"] not in self._items:
            path = self.sidecar(record, "items")
            if path is None:
                return None
            self._items[record["path"]] = item_facts(path)
        return self._items[record["path"]]


def sha_of(block: Any, name: str) -> str | None:
    """The SHA-256 that `inputs` or `outputs` give for `name`."""
    entry = block.get(name) if isinstance(block, dict) else None
    value = entry.get("sha256") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else None


def is_dense(scheme: object) -> bool:
    """Whether a scheme is the variant's own checkpoint; an unknown one counts as quantized."""
    return scheme == DENSE or (isinstance(scheme, str) and scheme in SCHEMES and SCHEMES[scheme].dense)


def brief(sha256: str | None) -> str:
    """The first characters of a hash, enough to tell two apart in a message."""
    return sha256[:12] if sha256 else "none"

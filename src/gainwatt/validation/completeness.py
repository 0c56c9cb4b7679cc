"""Is every record there, readable, in its place, and there once?"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from gainwatt.record import Record
from gainwatt.study import BASE, DENSE
from gainwatt.study.branches import part_records
from gainwatt.study.model import SECTIONS_OF_STAGE
from gainwatt.validation.collected import Collected, brief, is_dense, sha_of
from gainwatt.validation.expectation import Problem, each_record, listed, whole_study
from gainwatt.validation.findings import ERROR, INFO, WARNING

_AGAIN = "run the rule that makes it again"
_REMOVE = "remove the file, then run the study again: the missing record is made"


@whole_study(ERROR, source="the cells of the study file")
def complete(study: Collected) -> Iterator[Problem]:
    """Every record that the study asks for is there."""
    broken = {entry.file for entry in study.unreadable}
    parts = set(part_records(study.study))
    for (stage, name), path in study.expected.items():
        file = study.relative(path)
        if study.at(stage, name) is None and file not in broken:
            what = f"the study asks for {stage} of {name}, and there is no such record"
            hint = "run the study: snakemake makes what is missing, and nothing else"
            if (stage, name) in parts:
                hint = f"remove the record {'.'.join(name.split('.')[:2])} beside it and {hint}"
            yield Problem(what, hint, file=file)


@whole_study(ERROR, source="gainwatt.record")
def readable(study: Collected) -> Iterator[Problem]:
    """Every record is whole JSON of this project, of the schema version that this code reads."""
    for entry in study.unreadable:
        yield Problem(entry.what, entry.hint, file=entry.file)
    for record in study.foreign:
        what = f"the record belongs to the study {record['study']!r}, not to {study.study.study!r}"
        yield Problem(what, "move it to the results folder of its own study", file=record["file"])


@each_record(WARNING, source="the cells of the study file", any_status=True)
def known_cell(study: Collected, record: Record) -> Iterator[Problem]:
    """Every record belongs to a cell that the study names."""
    if study.place(record) in study.expected or "repeat" in record["cell"]:
        return
    stage = record["stage"]
    if stage not in SECTIONS_OF_STAGE:
        yield Problem(f"there is no stage {stage!r} in this version", "read it with the version that wrote it")
    elif stage in {expected for expected, _ in study.expected}:
        what = "the study as it is now does not name this cell: no table shows it"
        yield Problem(what, "remove it, or add its variant or scheme to the study again")


@each_record(ERROR, source="gainwatt.study.layout", any_status=True)
def place(study: Collected, record: Record) -> Iterator[Problem]:
    """A record lies in the folder of its stage under the name of its cell."""
    stage, name = study.place(record)
    if stage != record["stage"]:
        yield Problem(f"a record of the stage {record['stage']!r} lies in the folder {stage!r}", _REMOVE)
    wanted = _name_of(record)
    if wanted is not None and name != wanted and not name.startswith(f"{wanted}."):
        yield Problem(f"the record is of the cell {wanted!r}, its name says {name!r}", _REMOVE)


def _name_of(record: Record) -> str | None:
    parts = [str(record["cell"][key]) for key in ("variant", "scheme") if record["cell"].get(key)]
    return ".".join(parts) or None


@whole_study(ERROR, source="one record per cell")
def duplicate_cell(study: Collected) -> Iterator[Problem]:
    """No cell has two records."""
    files = defaultdict(list)
    for record in sorted(study.records, key=lambda record: study.place(record) not in study.expected):
        files[record["stage"], json.dumps(record["cell"], sort_keys=True)].append(record["file"])
    for (stage, cell), same in files.items():
        for file in same[1:]:
            yield Problem(f"{stage} of {cell} is also in {same[0]}", f"keep one of them: {_REMOVE}", file=file)


@whole_study(ERROR, source="SHA-256 over all files of a checkpoint")
def same_checkpoint(study: Collected) -> Iterator[Problem]:
    """Two variants, or two schemes of a variant, are not the same checkpoint."""
    owners: dict[str, tuple[str, str]] = {}
    for record in study.records:
        identity = _identity(record)
        if identity is None:
            continue
        sha256, owner = identity
        first = owners.setdefault(sha256, owner)
        if first != owner:
            what = f"{'.'.join(owner)} and {'.'.join(first)} are the same checkpoint {brief(sha256)}"
            hint = "one was copied over the other, or its training changed no weight: make that checkpoint again"
            yield Problem(what, hint, file=record["file"])


def _identity(record: Record) -> tuple[str, tuple[str, str]] | None:
    """Hash and owner (variant, scheme) of the checkpoint that a record made, or else that it measured."""
    cell = record["cell"]
    variant, scheme = str(cell.get("variant", BASE)), cell.get("scheme", DENSE)
    made = sha_of(record["outputs"], "checkpoint")
    measured = None if record["stage"] == "quantize" else sha_of(record["inputs"], "checkpoint")
    sha256 = made or measured
    return None if sha256 is None else (sha256, (variant, DENSE if is_dense(scheme) else str(scheme)))


@each_record(INFO, source="the status of the record", any_status=True)
def not_measured(study: Collected, record: Record) -> Iterator[Problem]:
    """Cells that did not fit or cannot run on this machine are results, and are listed."""
    if record["status"] != "ok":
        hint = "nothing to do, or use a machine that can run it"
        yield Problem(f"{record['status']}: {record.get('reason') or 'no reason given'}", hint)


@each_record(ERROR, source="the index of each item", stages=("evaluate_gsm8k",))
def duplicate_item(study: Collected, record: Record) -> Iterator[Problem]:
    """No question was counted twice in one cell."""
    facts = study.items(record)
    if facts is not None and facts.repeated:
        shown = ", ".join(listed(map(str, facts.repeated)))
        yield Problem(f"{len(facts.repeated)} item(s) stand more than once in its table: {shown}", _AGAIN)

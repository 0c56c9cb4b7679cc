"""Do the hashes match: settings, data, checkpoints from parent to child, and the files beside each record?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from gainwatt.checkpoint import read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.record import Record
from gainwatt.study import BASE, DENSE
from gainwatt.study.model import SECTIONS_OF_STAGE
from gainwatt.tables.stale import Stale
from gainwatt.validation.collected import Collected, brief, is_dense, sha_of
from gainwatt.validation.expectation import Problem, each_record, listed, whole_study
from gainwatt.validation.findings import ERROR, WARNING

_AGAIN = "run the rule that makes this record again"
_SPLIT_OF_STAGE = {"evaluate_gsm8k": "test", "train_grpo": "train", "warm_start": "sft"}


@each_record(ERROR, source="SHA-256 of the stage's settings", any_status=True)
def settings_hash(study: Collected, record: Record) -> Iterator[Problem]:
    """A record was made with the settings that the study has now, by the rule that the tables go by."""
    if record["stage"] not in SECTIONS_OF_STAGE:
        return
    found = study.freshness.differences(record)
    if not found:
        return
    said = "; ".join(listed((f"{one.setting} {_was(one)} -> {_shown(one.wanted)}" for one in found), 4))
    if found[0].edited:
        yield Problem(f"the settings in the record were edited: {said}", f"remove the record, then {_AGAIN}")
    else:
        yield Problem(f"made with other settings than the study has now: {said}", f"{_AGAIN}, or set the study back")


def _was(found: Stale) -> str:
    return "(not in the record)" if found.recorded is None else _shown(found.recorded)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@each_record(ERROR, source="SHA-256 over all files of a checkpoint")
def checkpoint_chain(study: Collected, record: Record) -> Iterator[Problem]:
    """What was measured is what training or quantization made, and that is of its parent."""
    inputs, cell = record["inputs"], record["cell"]
    base = sha_of(inputs, "base")
    if base is not None:
        yield from _same(base, _made(study, BASE), "started from", BASE)
    loaded = sha_of(inputs, "checkpoint")
    if loaded is None or "variant" not in cell:
        return
    variant, scheme = str(cell["variant"]), cell.get("scheme")
    if record["stage"] == "quantize" or scheme is None or is_dense(scheme):
        yield from _same(loaded, _made(study, variant), "read", variant)
        return
    yield from _same(loaded, _made(study, variant, str(scheme)), "read", f"{variant}.{scheme}")
    parent = inputs["checkpoint"].get("parent_sha256")
    yield from _same(parent, _made(study, variant), "read a child of", variant)


def _made(study: Collected, variant: str, scheme: str | None = None) -> str | None:
    """The checkpoint of a variant by the record that made it."""
    return study.checkpoints.get((variant, scheme or DENSE))


def _same(found: str | None, made: str | None, verb: str, name: str) -> Iterator[Problem]:
    if made is not None and found is None:
        yield Problem(f"it does not say which checkpoint of {name} it {verb}", _AGAIN)
    elif made is not None and found != made:
        yield Problem(f"it {verb} the checkpoint {brief(found)}, but the record of {name} made {brief(made)}", _AGAIN)


@each_record(ERROR, source="the checkpoint's manifest")
def manifest(study: Collected, record: Record) -> Iterator[Problem]:
    """The checkpoint on the disk is the one that its record made; absent ones are not asked for."""
    made = sha_of(record["outputs"], "checkpoint")
    if made is None or "variant" not in record["cell"]:
        return
    path = study.layout.manifest(str(record["cell"]["variant"]), str(record["cell"].get("scheme", "dense")))
    if not path.exists():
        return
    try:
        found = read_manifest(path, verify=False).sha256
    except (InputError, UnavailableError) as error:
        yield Problem(error.what, error.hint or _AGAIN)
        return
    if found != made:
        yield Problem(f"the record made the checkpoint {brief(made)}, and {path} describes {brief(found)}", _AGAIN)


@each_record(ERROR, source="SHA-256 of the split")
def data_hash(study: Collected, record: Record) -> Iterator[Problem]:
    """A stage read the split that prepare_data wrote, and the file is still that one."""
    if record["stage"] == "prepare_data":
        for split in record["outputs"]:
            path, wanted = study.layout.data(split), sha_of(record["outputs"], split)
            if path.is_file() and wanted is not None and study.sha256(path) != wanted:
                what = f"{study.relative(path)} is not the file that was prepared: it was changed since"
                yield Problem(what, "run the rule prepare_data again, and what was made from the changed file")
        return
    prepared, split = study.at("prepare_data", "data"), _SPLIT_OF_STAGE.get(record["stage"])
    if prepared is None or split is None:
        return
    read, wanted = sha_of(record["inputs"], "data"), sha_of(prepared["outputs"], split)
    if wanted is not None and read != wanted:
        yield Problem(f"it read the data {brief(read)}, and prepare_data wrote {split} {brief(wanted)}", _AGAIN)


@whole_study(ERROR, source="SHA-256 of the data: only then are cells paired")
def same_data(study: Collected) -> Iterator[Problem]:
    """All cells of one stage read the same data."""
    for stage in study.stages:
        groups: dict[str, list[Record]] = {}
        for record in study.of(stage):
            kept = {key: value for key, value in record["cell"].items() if key not in _shared_by(stage)}
            group = json.dumps(kept, sort_keys=True)
            groups.setdefault(group, []).append(record)
        for records in groups.values():
            for name in sorted({name for record in records for name in record["inputs"] if _is_data(name)}):
                yield from _unlike(stage, name, records)


def _shared_by(stage: str) -> tuple[str, ...]:
    """Parts of a cell that do not change what is read; each quantization scheme may calibrate on its own texts."""
    return ("variant",) if stage == "quantize" else ("variant", "scheme")


def _is_data(name: str) -> bool:
    """Inputs that every cell of a stage shares; checkpoints and settings have checks of their own."""
    return name in ("data", "corpus", "tokens", "calibration", "text") or name.startswith("items.")


def _unlike(stage: str, name: str, records: list[Record]) -> Iterator[Problem]:
    hashes = {record["file"]: sha_of(record["inputs"], name) for record in records}
    counted = Counter(sha for sha in hashes.values() if sha is not None)
    usual = max(counted, key=lambda sha: (counted[sha], sha))
    for file, sha in hashes.items():
        # Only some schemes are calibrated; every cell of an evaluation names its data.
        if sha != usual and (sha is not None or name == "data"):
            yield Problem(
                f"its {name} is {brief(sha)}, the other cells of {stage} read {brief(usual)}", _AGAIN, file=file
            )


@each_record(ERROR, source="SHA-256 of the file", any_status=True)
def sidecars(study: Collected, record: Record) -> Iterator[Problem]:
    """Every file beside a record is there and is the one that it was written with."""
    if record["stage"] == "prepare_data":
        return  # its outputs are the data files, which data_hash looks at
    for name, entry in record["outputs"].items():
        file = entry.get("file")
        if file is None:
            continue
        path = study.sidecar(record, name)
        if path is None:
            kind = WARNING if name == "trace" else ERROR  # no table needs the power trace
            yield Problem(f"the file {file} ({name}) is not there", _AGAIN, severity=kind)
        elif study.sha256(path) != entry.get("sha256"):
            yield Problem(f"the file {file} ({name}) is not the one that the record was written with", _AGAIN)

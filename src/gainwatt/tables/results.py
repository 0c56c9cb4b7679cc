"""All records of a study, found where its layout says, checked on the way in."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from gainwatt.errors import RecordError
from gainwatt.record import Record, read_record
from gainwatt.stats.resample import binary
from gainwatt.study import Cell, Layout, Study, evaluation_cells, quantization_cells, trained_variants
from gainwatt.study.branches import branch_records, part_records
from gainwatt.tables.resamples import Resamples
from gainwatt.tables.stale import Freshness, Stale, refuse
from gainwatt.weights.variants import diagnosed_variants

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = dict[str, Any]
Options = ParamSpec("Options")
Table = Callable[Concatenate["Results", Options], list[Row]]
_EXACT = 1e-9
_EDITED = "run the rule evaluate_gsm8k of this cell again; scripts/validate.py names every such record"
ITEM_COLUMNS = ["index", "question", "gold", "answer", "correct", "tokens", "prompt_sha256"]


@dataclass
class Results:
    """The records of one study. A cell that has not been measured yet is absent from the dictionaries."""

    study: Study
    folder: Path
    evaluations: dict[Cell, Record] = field(default_factory=dict)
    quantizations: dict[Cell, Record] = field(default_factory=dict)
    trainings: dict[str, Record] = field(default_factory=dict)
    diagnoses: dict[str, Record] = field(default_factory=dict)
    perplexities: dict[Cell, Record] = field(default_factory=dict)
    tasks: dict[Cell, Record] = field(default_factory=dict)
    branches: dict[str, dict[str, Record]] = field(default_factory=dict)
    """Stage of an optional branch -> name -> record."""
    stale: list[Stale] = field(default_factory=list)
    _rows: dict[Any, list[Row]] = field(default_factory=dict)
    _read: dict[Path, Record] = field(default_factory=dict)

    @classmethod
    def load(cls, study: Study, layout: Layout, *, allow_stale: bool = False) -> Results:
        """Read every record of the study that exists. Raises RecordError naming a file that cannot be trusted.

        A record that was made with other settings than the study has now is such a file; with `allow_stale` it is
        read, and `stale` says what differs.
        """
        found = cls(study, layout.record("evaluate_gsm8k", "x").parent.parent)
        for cell in evaluation_cells(study):
            found._add(found.evaluations, cell, layout.record("evaluate_gsm8k", cell.name), "evaluate_gsm8k")
        for cell in evaluation_cells(study):
            if study.perplexity is not None:
                path = layout.record("evaluate_perplexity", cell.name)
                found._add(found.perplexities, cell, path, "evaluate_perplexity")
            if study.tasks is not None:
                found._add(found.tasks, cell, layout.record("evaluate_tasks", cell.name), "evaluate_tasks")
        for cell in quantization_cells(study):
            found._add(found.quantizations, cell, layout.record("quantize", cell.name), "quantize")
        for variant in trained_variants(study):
            found._add(found.trainings, variant, layout.record("train_grpo", variant), "train_grpo")
        for variant in diagnosed_variants(study):
            found._add(found.diagnoses, variant, layout.record("diagnose_weights", variant), "diagnose_weights")
        for stage, name in [*branch_records(study), *part_records(study)]:
            found._add(found.branches.setdefault(stage, {}), name, layout.record(stage, name), stage)
        if not found.evaluations and not any(found.branches.values()):
            kind = "evaluation record" if study.matrix else "record"
            raise RecordError(
                f"there is no {kind} of the study {study.study!r} under {found.folder}",
                "run the study first, or give the folder that holds its records with --set paths.results=DIR",
            )
        if not allow_stale:
            refuse(found.stale)
        return found

    def _add(self, into: dict[Any, Record], key: Any, path: Path, stage: str) -> None:
        if path.exists():
            record = read_record(path, stage=stage)
            if record["study"] != self.study.study:
                raise RecordError(
                    f"{path} belongs to the study {record['study']!r}, not {self.study.study!r}",
                    "check the folder",
                )
            record["path"] = str(path)
            self.stale += self._freshness.differences(record)
            if stage == "evaluate_gsm8k":
                check_accuracy(record)
            into[key] = self._read[path] = record

    @cached_property
    def _freshness(self) -> Freshness:
        return Freshness(self.study)

    def all_records(self) -> list[Record]:
        """Every record under the study's folder, of any stage, sorted by stage and file name."""
        return self._all_records

    @cached_property
    def _all_records(self) -> list[Record]:
        found = []
        for stage in sorted(path.name for path in self.folder.iterdir() if path.is_dir()):
            for path in sorted((self.folder / stage).glob("*.json")):
                record = self._read.get(path)
                if record is None:
                    record = read_record(path, stage=stage) | {"path": str(path)}
                found.append(record)
        return found

    def missing(self) -> list[Cell]:
        """Cells of the matrix without a record."""
        return [cell for cell in evaluation_cells(self.study) if cell not in self.evaluations]

    def measured(self, cell: Cell) -> Record | None:
        """The evaluation of a cell if it has one with status ok."""
        record = self.evaluations.get(cell)
        return record if record is not None and record["status"] == "ok" else None

    @cached_property
    def items(self) -> dict[Cell, dict[str, list[Any]]]:
        """Per-item columns of each measured cell, sorted by item index.

        Raises RecordError when a file is not the one its record names, or when two cells saw other questions.
        """
        found: dict[Cell, dict[str, list[Any]]] = {}
        shared: Shared = {}
        for cell in self.evaluations:
            record = self.measured(cell)
            if record is None:
                continue
            found[cell] = columns = _read_items(record, shared)
            check_items(record, columns["correct"])
            first = next(iter(found))
            if columns["prompt_sha256"] != found[first]["prompt_sha256"]:
                raise RecordError(
                    f"the cells {first.name} and {cell.name} were not asked the same questions",
                    "evaluate both again with the same data and prompt: only paired answers can be compared",
                )
        return found

    @cached_property
    def correct(self) -> dict[Cell, NDArray[np.bool_]]:
        """Which items each measured cell answered correctly, shape (items,)."""
        return {cell: binary(columns["correct"], cell.name).astype(bool) for cell, columns in self.items.items()}

    @cached_property
    def resamples(self) -> Resamples:
        """Tokens and correct answers of every measured cell in each bootstrap resample of the items."""
        return Resamples(self.items, self.study.statistics)

    def once(self, key: Any, make: Callable[[], list[Row]]) -> list[Row]:
        """The rows that `make` gives, made on the first call with this key."""
        if key not in self._rows:
            self._rows[key] = make()
        return list(self._rows[key])


def made_once(table: Table[Options]) -> Table[Options]:
    """A table whose rows several tables and figures show: worked out once for each study and set of options."""

    @functools.wraps(table)
    def kept(results: Results, *args: Options.args, **options: Options.kwargs) -> list[Row]:
        key = (table.__module__, table.__name__, args, tuple(sorted(options.items())))
        return results.once(key, lambda: table(results, *args, **options))

    return kept


def check_accuracy(record: Record) -> None:
    """Raise RecordError where the accuracy that an evaluation gives is not the share of its own counts."""
    metrics = record["metrics"]
    share, right, n = (metrics.get(name) for name in ("accuracy", "correct", "num_examples"))
    if share is None or right is None or not n:
        return
    if abs(share - right / n) > _EXACT:
        what = f"the record {record['path']} contradicts itself: accuracy {share:g}, and {right} of {n} correct"
        raise RecordError(what, _EDITED)


def check_items(record: Record, correct: list[Any]) -> None:
    """Raise RecordError where the items beside an evaluation are not those that its metrics count."""
    metrics = record["metrics"]
    told, found = (metrics.get("correct"), metrics.get("num_examples")), (correct.count(True), len(correct))
    if told != found:
        said = f"{told[0]} of {told[1]} correct, and its items say {found[0]} of {found[1]}"
        what = f"the record {record['path']} says {said}"
        raise RecordError(what, _EDITED)


def read_sidecar(record: Record, name: str, columns: list[str] | None = None) -> dict[str, list[Any]]:
    """Columns of a parquet file beside a record. Raises RecordError when it is missing or is another file."""
    found: dict[str, list[Any]] = _read_table(record, name, columns).to_pydict()
    return found


def _read_table(record: Record, name: str, columns: list[str] | None) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    path = Path(record["path"])
    entry = record["outputs"].get(name)
    if entry is None:
        raise RecordError(f"the record {path} names no {name} file", "run the rule that makes it again")
    sidecar = path.with_name(entry["file"])
    again = "run the rule that makes it again"
    try:
        content = sidecar.read_bytes()
    except FileNotFoundError as error:
        raise RecordError(f"{sidecar}, which {path} names, does not exist", again) from error
    except OSError as error:
        raise RecordError(f"cannot read {sidecar}: {error.strerror}", "check the file's permissions") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise RecordError(f"{sidecar} is not the file that {path} was written with", again)
    try:
        # read_table would import pyarrow.dataset, and with it pandas where that is installed.
        with parquet.ParquetFile(pa.BufferReader(content)) as file:
            return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, KeyError) as error:
        raise RecordError(f"{sidecar} cannot be read as a table: {error}", again) from error


Shared = dict[str, tuple[Any, list[Any]]]
"""A column as it was first seen, as an Arrow array and as a list: cells of one matrix share their questions."""


def _read_items(record: Record, shared: Shared) -> dict[str, list[Any]]:
    table = _read_table(record, "items", ITEM_COLUMNS)
    lists: dict[str, list[Any]] = {}
    for name in ITEM_COLUMNS:
        column = table.column(name)
        if name in shared and column.equals(shared[name][0]):
            lists[name] = shared[name][1]
        else:
            lists[name] = column.to_pylist()
            shared.setdefault(name, (column, lists[name]))
    index = lists["index"]
    if all(before < after for before, after in itertools.pairwise(index)):
        return lists
    order = sorted(range(len(index)), key=index.__getitem__)
    return {name: [values[i] for i in order] for name, values in lists.items()}

"""One side of a comparison: the records of a study, found by its YAML file or by its results folder."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.record import Record
from gainwatt.schemes import SCHEMES
from gainwatt.study import BASE, Cell, Layout, load_study
from gainwatt.validation.collected import Unreadable, read_folder


@dataclass
class Side:
    """The records of one side. `file` holds the whole study where it was given as YAML."""

    label: str
    folder: Path
    records: list[Record]
    unreadable: list[Unreadable] = field(default_factory=list)
    file: dict[str, Any] | None = None

    @cached_property
    def places(self) -> dict[tuple[str, str], list[Record]]:
        """(stage, cell) -> its records: one, or several where the cell was repeated."""
        found: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in self.records:
            found[record["stage"], cell_name(record)].append(record)
        return dict(found)

    @cached_property
    def evaluations(self) -> dict[Cell, Record]:
        """The first evaluation of each cell, whatever its status."""
        found: dict[Cell, Record] = {}
        for (stage, _), records in self.places.items():
            cell = records[0]["cell"]
            if stage == "evaluate_gsm8k" and "variant" in cell and "scheme" in cell:
                found[Cell(str(cell["variant"]), str(cell["scheme"]))] = records[0]
        return found

    @property
    def trained(self) -> list[str]:
        """Variants with an evaluation, the base left out."""
        return sorted({cell.variant for cell in self.evaluations} - {BASE})

    @cached_property
    def reference(self) -> str | None:
        """The reference scheme: as the study or a record names it, else the only unquantized one, else None."""
        if self.file is not None:
            return str(self.file["quantize"]["reference"])
        named = {record["settings"].get("quantize.reference") for record in self.records} - {None}
        dense = {cell.scheme for cell in self.evaluations if cell.scheme in SCHEMES and SCHEMES[cell.scheme].dense}
        found = named or dense
        return str(next(iter(found))) if len(found) == 1 else None

    @cached_property
    def source(self) -> str | None:
        """Where the questions come from, by the study or by the record of prepare_data."""
        if self.file is not None:
            return str(self.file["data"]["source"])
        found = {record["settings"].get("data.source") for record in self.records} - {None}
        return str(next(iter(found))) if len(found) == 1 else None


def cell_name(record: Record) -> str:
    """`variant.scheme`, or what else the cell consists of; repeats of a cell share it."""
    cell = record["cell"]
    parts = [str(cell[key]) for key in ("variant", "scheme") if key in cell]
    known = ("variant", "scheme", "engine", "repeat", "source")
    parts += [f"{key}={value}" for key, value in sorted(cell.items()) if key not in known]
    return ".".join(parts) or str(record["place"][1])


def read_side(argument: str) -> Side:
    """The side that a command line names. Raises InputError where there is no study or no record."""
    path = Path(argument)
    whole = None
    if path.is_file():
        study = load_study(path, check_paths=False)
        folder, whole = Layout.of(study).results, study.model_dump(mode="json")
    elif path.is_dir():
        folder = path.parent if path.name == "records" else path
    else:
        raise InputError(f"there is no study file or results folder {argument}", "give a YAML file or results/<study>")
    records, unreadable = read_folder(folder)
    if not records:
        raise InputError(
            f"there is no readable record under {folder}/records",
            "run the study first, or give the folder that holds `records`",
        )
    return Side(argument, folder, records, unreadable, whole)

"""From the section `serve` to its cells: checkpoint x kernel x load, and the names of their records.

One rule runs all cells of one checkpoint, because starting an engine costs minutes. Its own record, `VARIANT.SCHEME`,
lists the cells; each cell has a record beside it, so that a killed run goes on with those that are left.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.schemes import get_scheme
from gainwatt.study.cells import Cell, schemes, variants
from gainwatt.study.model import Study
from gainwatt.study.serving import Serve

STAGE = "benchmark_serving"


@dataclass(frozen=True)
class Load:
    """What is asked of the engine. `kind`: sequential, batch (offline); closed, poisson, capacity (online).

    `size` is the batch size, the number of clients, or the requests per second; None for the capacity search.
    """

    mode: str
    lengths: str
    kind: str
    size: float | None

    @property
    def name(self) -> str:
        """E.g. offline-fixed-b16, online-natural-c8, online-natural-r2.5, online-natural-capacity."""
        signs = {"batch": "b", "closed": "c", "poisson": "r"}
        last = f"{signs[self.kind]}{self.size:g}" if self.kind in signs else self.kind
        return f"{self.mode}-{self.lengths}-{last}"

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


@dataclass(frozen=True)
class Start:
    """One start of an engine: in this process for the offline loads, as a server for the online ones."""

    cell: Cell
    kernel: str | None
    mode: str

    @property
    def prefix(self) -> str:
        """What the names of this start's records begin with."""
        return ".".join([self.cell.name, *([self.kernel] if self.kernel else [])])

    @property
    def name(self) -> str:
        """The record of the start itself."""
        return f"{self.prefix}.start-{self.mode}"

    def record_name(self, load: Load) -> str:
        """The record of one cell of this start."""
        return f"{self.prefix}.{load.name}"


def loads(serve: Serve, mode: str) -> list[Load]:
    """The loads of one mode (offline, online), small ones first."""
    return [load for lengths in serve.lengths for load in _loads(serve, mode, lengths)]


def _loads(serve: Serve, mode: str, lengths: str) -> list[Load]:
    if mode == "offline" and serve.offline is not None:
        first = [Load(mode, lengths, "sequential", 1)] if serve.offline.sequential_prompts else []
        return first + [Load(mode, lengths, "batch", size) for size in sorted(set(serve.offline.batch_sizes))]
    if mode == "online" and serve.online is not None:
        found = [Load(mode, lengths, "closed", size) for size in sorted(set(serve.online.concurrency))]
        found += [Load(mode, lengths, "poisson", rate) for rate in sorted(set(serve.online.rates_per_s))]
        return found + ([Load(mode, lengths, "capacity", None)] if serve.online.capacity else [])
    return []


def kernels(serve: Serve, scheme: str) -> list[str | None]:
    """The engine's own choice (None), then the kernels of the study that can be chosen for the scheme."""
    entry = get_scheme(scheme)
    named = [k for k in serve.kernels if (entry.kind == "autoawq" or k.startswith("no-")) and not entry.dense]
    return [None, *named]


def starts(study: Study, cell: Cell) -> list[Start]:
    """Every start of an engine that the cells of one checkpoint need."""
    serve = study.serve
    if serve is None:
        return []
    # The server first: an engine in this process leaves a context on the board, which is then not at rest any more.
    modes = [mode for mode in ("online", "offline") if loads(serve, mode)]
    return [Start(cell, kernel, mode) for kernel in kernels(serve, cell.scheme) for mode in modes]


def served_cells(study: Study) -> list[Cell]:
    """The checkpoints that are served, base first; none in a study without the section."""
    if study.serve is None:
        return []
    chosen = study.serve.variants or variants(study)
    stored = study.serve.schemes or schemes(study)
    return [Cell(v, s) for v in variants(study) if v in chosen for s in schemes(study) if s in stored]


def grid_names(study: Study) -> list[str]:
    """Names of the records that the rule declares: one for each checkpoint."""
    return [cell.name for cell in served_cells(study)]


def part_names(study: Study) -> list[str]:
    """Names of the records that the rule writes on its way: each start, and each cell."""
    names = []
    for cell in served_cells(study):
        for start in starts(study, cell):
            assert study.serve is not None  # noqa: S101 - there are no starts without it
            names += [start.name, *(start.record_name(load) for load in loads(study.serve, start.mode))]
    return names

"""A whole checkpoint, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gainwatt.parquet import write_table
from gainwatt.weights.measure import Measured, Plan, measure
from gainwatt.weights.quantizers import quantizer
from gainwatt.weights.select import counterparts, matrices


def diagnose(
    folder: Path,
    base: Path | None,
    plan: Plan,
    *,
    label: str,
    include_embeddings: bool = False,
    progress: Callable[[list[Any]], Iterable[Any]] = iter,
) -> list[Measured]:
    """Measure every 2-D weight of the checkpoint in `folder`, against the one in `base` where given.

    What cannot work (unreadable files, tensors without counterpart, a missing package) is an error before the first
    weight is read. `progress` may wrap the list of matrices.
    """
    for name in plan.schemes:
        quantizer(name, group_size=plan.group_size)
    ours = matrices(folder, include_embeddings=include_embeddings)
    theirs = {}
    if base is not None:
        theirs = counterparts(ours, matrices(base, include_embeddings=include_embeddings))
    return [measure(matrix, theirs.get(matrix.module), plan, label=label) for matrix in progress(ours)]


def write_rows(path: Path, measured: list[Measured], plan: Plan) -> None:
    """Write the rows as parquet, with the columns of `Plan.columns` in order."""
    write_table(path, [{name: entry.row[name] for name in plan.columns()} for entry in measured])

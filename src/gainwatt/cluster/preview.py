"""What a study will cost, rule by rule, before anything is submitted.

Every figure names its basis, best first:

same cell      the same cell of the same study with the same settings has run
same settings  median of the study's other cells with the same settings, of the same scheme where there are any
guess          median of jobs of the rule with other settings or from other records that the caller names; without any,
               upper limits: the time limit, and for each GPU GUESSED_GPU_W
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.cluster.history import Past
from gainwatt.schemes import get_scheme
from gainwatt.study import Layout, Study
from gainwatt.study.branches import KINDS, ONE_JOB
from gainwatt.workflow import QUALITY, every_record, needs

GUESSED_GPU_W = 400.0
"""Power of one GPU at work where nothing was measured yet."""
KIND_OF_STAGE = {
    "prepare_data": "light", "warm_start": "prepare", "fetch_model": "prepare", "train_grpo": "train",
    "train_sft_control": "train", "quantize": "quantize", "evaluate_gsm8k": "evaluate",
    "diagnose_weights": "diagnose", **QUALITY, **KINDS,
}  # fmt: skip
LIGHT = ("make_tables", "make_figures", "validate", "make_report", "check")
_MAKES_CHECKPOINT = ("fetch_model", "warm_start", "train_grpo", "train_sft_control", "quantize")
_WITHOUT_GPU = ("fetch_gguf",)
"""Stages that never take a GPU, whatever their kind asks for."""
_SAVED_STATES = 2
"""Checkpoints for resuming that a training keeps: fp32 weights and two moments of the optimizer each."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Amount:
    """A figure and where it comes from; the value is null where not even a guess is possible."""

    value: float | None
    basis: str


def preview(study: Study, layout: Layout, history: Sequence[Past], *, exists: Callable[[str], bool]) -> list[Row]:
    """One row per rule, in the order of the workflow, and a last one with the sums.

    `exists` says whether a record is there: `to_do` counts the others. Hours, joules and bytes are those of `to_do`.
    """
    cells: dict[str, list[tuple[str, bool]]] = {}
    for path in map(Path, every_record(study, layout)):
        cells.setdefault(path.parent.name, []).append((path.stem, exists(str(path))))
    for stage in cells.keys() & ONE_JOB.keys():
        cells[stage] = [(ONE_JOB[stage], all(there for _, there in cells[stage]))]
    rows = [_row(study, stage, found, history) for stage, found in cells.items()]
    made = bool(rows) and all(row["to_do"] == 0 for row in rows)
    rows += [_light(stage, made and exists(str(layout.tables / "checked.json"))) for stage in LIGHT]
    return [*rows, _sum(rows)]


def _row(study: Study, stage: str, cells: list[tuple[str, bool]], history: Sequence[Past]) -> Row:
    wanted = needs(study, KIND_OF_STAGE[stage])
    gpus = 0 if stage in _WITHOUT_GPU else wanted.gpus
    to_do = [cell for cell, there in cells if not there]
    of_stage = [job for job in history if job.stage == stage]
    settings = study.settings_sha256(stage)
    hours, joules, disk = [], [], []
    for cell in to_do:
        seconds = _typical(of_stage, study.study, cell, settings, lambda job: job.seconds)
        if seconds.value is None:
            seconds = Amount(wanted.runtime_min * 60.0, "guess")
        hours.append(Amount(seconds.value and seconds.value / 3600, seconds.basis))
        joules.append(_joules(study, stage, cell, settings, of_stage, hours[-1], gpus))
        disk.append(_disk(study, stage, cell, settings, history))
    total = _total(hours)
    return {
        "rule": stage,
        "jobs": len(cells),
        "to_do": len(to_do),
        "gpus_each": gpus,
        "hours": total.value,
        "gpu_hours": None if total.value is None else total.value * gpus,
        "hours_basis": total.basis,
        "gross_j": _total(joules).value,
        "joules_basis": _total(joules).basis,
        "disk_gb": _scaled(_total(disk).value, 1e-9),
        "while_running_gb": _scaled(_transient(study, stage, history) if to_do else 0.0, 1e-9),
        "disk_basis": _total(disk).basis,
    }


def _light(stage: str, made: bool) -> Row:
    """A rule that makes its products from records in seconds, where Snakemake runs."""
    return {
        "rule": stage, "jobs": 1, "to_do": 0 if made else 1, "gpus_each": 0, "hours": 0.0, "gpu_hours": 0.0,
        "hours_basis": "seconds", "gross_j": None, "joules_basis": "not metered", "disk_gb": 0.0,
        "while_running_gb": 0.0, "disk_basis": "",
    }  # fmt: skip


def _typical(
    jobs: Sequence[Past], study: str, cell: str, settings: str, value: Callable[[Past], float | None]
) -> Amount:
    known = [job for job in jobs if value(job) is not None]
    same = [job for job in known if job.settings == settings and job.study == study]
    for basis, chosen in (
        ("same cell", [job for job in same if job.cell == cell]),
        ("same settings", [job for job in same if _alike(job, cell)] or same),
        ("guess", [job for job in known if _alike(job, cell)] or known),
    ):
        if chosen:
            return Amount(statistics.median(value(job) or 0.0 for job in chosen), basis)
    return Amount(None, "guess")


def _alike(job: Past, cell: str) -> bool:
    """The same scheme: what decides time and size of a cell most."""
    return job.cell.partition(".")[2] == cell.partition(".")[2]


def _joules(
    study: Study, stage: str, cell: str, settings: str, jobs: Sequence[Past], hours: Amount, gpus: int
) -> Amount:
    found = _typical(jobs, study.study, cell, settings, lambda job: job.gross_j)
    if found.value is not None or not gpus or hours.value is None:
        return found
    return Amount(hours.value * 3600 * gpus * GUESSED_GPU_W, "guess")


def _disk(study: Study, stage: str, cell: str, settings: str, history: Sequence[Past]) -> Amount:
    """Bytes that stay of one job: checkpoint and files beside its record."""
    of_stage = [job for job in history if job.stage == stage]
    found = _typical(of_stage, study.study, cell, settings, lambda job: float(job.kept_bytes))
    if found.value is not None and found.basis != "guess":
        return found
    dense = dense_bytes(study, history)
    if dense is None:
        return (
            found
            if stage not in ("fetch_model", "train_grpo", "train_sft_control", "quantize")
            else Amount(None, "guess")
        )
    if stage in ("fetch_model", "warm_start", "train_grpo", "train_sft_control"):
        return Amount(float(dense), "guess")
    if stage == "quantize":
        bits = get_scheme(cell.partition(".")[2]).bits_per_weight or 16
        return Amount(dense * bits / (32 if study.model.dtype == "fp32" else 16), "guess")
    return found


def dense_bytes(study: Study, history: Sequence[Past]) -> int | None:
    """Bytes of the unquantized weights: from a record of this study's base model, or the local folder; else None."""
    for job in history:
        if job.study == study.study and job.stage in ("warm_start", "fetch_model") and job.weight_bytes:
            return job.weight_bytes
    folder = Path(study.model.source)
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sum(sizes) or None


def _transient(study: Study, stage: str, history: Sequence[Past]) -> float | None:
    """Bytes that one training needs beside what stays: its checkpoints for resuming, without adapters at most."""
    if stage not in ("train_grpo", "train_sft_control"):
        return 0.0
    dense = dense_bytes(study, history)
    if dense is None:
        return None
    parameters = dense / (4 if study.model.dtype == "fp32" else 2)
    return parameters * 12 * _SAVED_STATES


def _total(amounts: Sequence[Amount]) -> Amount:
    """The sum, as uncertain as its most uncertain part; null where a part is."""
    if not amounts:
        return Amount(0.0, "nothing to do")
    basis = max((amount.basis for amount in amounts), key=("same cell", "same settings", "guess").index)
    if any(amount.value is None for amount in amounts):
        return Amount(None, "unknown" if basis == "guess" else basis)
    return Amount(sum(amount.value or 0.0 for amount in amounts), basis)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _sum(rows: Sequence[Row]) -> Row:
    """Sums over the rules; null where a rule that runs has no figure. Of what a running job needs, the largest."""
    running = [row for row in rows if row["to_do"] and row["rule"] not in LIGHT]

    def added(key: str) -> float | None:
        # Without GPUs and without a figure: most machines meter GPUs only, and the sum is that of what is metered.
        values = [row[key] for row in running if key != "gross_j" or row["gpus_each"] or row[key] is not None]
        return None if any(value is None for value in values) else sum(values)

    bases = {key: "guess in part" if any(row[key] in ("guess", "unknown") for row in running) else "records"
             for key in ("hours_basis", "joules_basis", "disk_basis")}  # fmt: skip
    transients = [row["while_running_gb"] for row in running]
    return {
        "rule": "sum", "jobs": sum(row["jobs"] for row in rows), "to_do": sum(row["to_do"] for row in rows),
        "gpus_each": None, "hours": added("hours"), "gpu_hours": added("gpu_hours"), "gross_j": added("gross_j"),
        "disk_gb": added("disk_gb"),
        "while_running_gb": None if None in transients else max(transients, default=0.0), **bases,
    }  # fmt: skip

"""Do the numbers of a training profile follow from its steps, and are there enough of them?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.profiling.training_parts import PARTS
from gainwatt.record import Record
from gainwatt.study.train_profile import STAGE
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number, off
from gainwatt.validation.findings import ERROR, WARNING
from gainwatt.validation.performance import gpu_mib

FEW_STEPS = 5
"""The mean of fewer steps has an interval wider than most differences (Student's t: 2.8 standard errors at five)."""
_AGAIN = "run the rule that makes this record again"
_MIB = 2**20


def _rows(study: Collected, record: Record) -> list[dict[str, Any]]:
    """The measured steps that went well; none where the table is not there, which another check says."""
    from pyarrow import parquet

    path = study.sidecar(record, "steps")
    if path is None:
        return []
    with parquet.ParquetFile(os.fspath(Path(path))) as file:
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return [row for row in rows if row["status"] == "ok" and not row["warmup"]]


@each_record(ERROR, source="sums over the steps; validation.consistency_tolerance", stages=(STAGE,))
def profiled_times(study: Collected, record: Record) -> Iterator[Problem]:
    """No step is shorter than its parts, and rollouts per minute are rollouts by their time."""
    tolerance, rows, metrics = study.study.validation.consistency_tolerance, _rows(study, record), record["metrics"]
    for row in rows:
        parts = sum(number(row[f"{part}_s"]) or 0.0 for part in PARTS)
        if parts > row["step_s"] * (1 + tolerance) + 0.01:
            yield Problem(f"step {row['step']} took {row['step_s']:.3f} s, and its parts {parts:.3f} s", _AGAIN)
    seconds, rate = sum(row["rollout_s"] or 0.0 for row in rows), number(metrics.get("rollouts_per_min"))
    if rate is not None and seconds:
        wanted = 60 * sum(row["completions"] for row in rows) / seconds
        if off(rate, wanted) > tolerance:
            yield Problem(f"rollouts_per_min is {rate:.4g}, the steps give {wanted:.4g}", _AGAIN)


@each_record(ERROR, source="the lengths in the table of steps; train.max_completion_tokens", stages=(STAGE,))
def profiled_lengths(study: Collected, record: Record) -> Iterator[Problem]:
    """The long tail is what the lengths say, by its own threshold, and no rollout is longer than the limit."""
    metrics, rows = record["metrics"], _rows(study, record)
    lengths = [length for row in rows for length in row["completion_tokens"]]
    threshold, told = number(metrics.get("long_tail_threshold_tokens")), number(metrics.get("long_tail_rate"))
    limit = number((record["settings"].get("train") or {}).get("max_completion_tokens"))
    if not lengths:
        return
    if threshold is None:
        yield Problem("a long tail without its threshold says nothing", _AGAIN)
    elif told is not None:
        found = sum(length > threshold for length in lengths) / len(lengths)
        if abs(found - told) > 1e-9:
            yield Problem(f"long_tail_rate is {told:.4g}, the lengths give {found:.4g}", _AGAIN)
    if limit is not None and max(lengths) > limit:
        yield Problem(f"a rollout has {max(lengths)} tokens, the limit is {limit:.0f}: padding was counted", _AGAIN)


@each_record(ERROR, source="weights stay loaded in every part of a step", stages=(STAGE,))
def profiled_memory(study: Collected, record: Record) -> Iterator[Problem]:
    """No part of a step peaked below what the loaded model takes, or above the GPUs' memory."""
    metrics = record["metrics"]
    loaded = number(metrics.get("allocated_after_load_mib"))
    there = gpu_mib(record)
    for part in PARTS:
        peak = number(metrics.get(f"peak_allocated_{part}_mib"))
        if peak is not None and loaded is not None and peak < 0.99 * loaded:
            what = f"the peak of {part} is {peak:.0f} MiB, and {loaded:.0f} MiB were allocated after loading"
            yield Problem(what, f"the peak was reset in between: {_AGAIN}")
        if peak is not None and there is not None and peak > there:
            yield Problem(f"the peak of {part} is {peak:.0f} MiB, the GPUs have {there:.0f} MiB", _AGAIN)


@each_record(WARNING, source="the steps of the record", stages=(STAGE,), any_status=True)
def profiled_steps(study: Collected, record: Record) -> Iterator[Problem]:
    """Steps that ran out of memory are named, and a mean of few steps is marked."""
    metrics = record["metrics"]
    failed, good = number(metrics.get("oom_count")), number(metrics.get("steps_ok"))
    if failed:
        what = f"{failed:.0f} of {metrics.get('steps_measured')} steps ran out of memory ({metrics.get('oom_first')})"
        hint = "fewer train.per_device_train_batch_size or max_completion_tokens; the numbers are of the other steps"
        yield Problem(what, hint)
    if good is not None and good < FEW_STEPS and record["status"] == "ok":
        yield Problem(f"the numbers rest on {good:.0f} step(s)", "set train_profile.steps higher")

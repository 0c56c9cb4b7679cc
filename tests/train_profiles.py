"""Synthetic records of the training profile: steps with known times, lengths, peaks and joules."""

from __future__ import annotations

import random
from typing import Any

from factories import base_record, write_table
from gainwatt.profiling.training_parts import PARTS, STEP
from gainwatt.profiling.training_rows import slots
from gainwatt.profiling.training_summary import summarise
from gainwatt.record import write_record
from gainwatt.study import Layout, Study
from gainwatt.study.train_profile import STAGE, long_tail_threshold

SECONDS = {"rollout": 8.0, "score": 0.5, "update": 3.0, "optimizer": 0.2}
SLOWER = {"bnb-nf4": 1.5, "fp16": 1.0, "fp32": 1.2}


def steps(study: Study, weights: str, *, metered: bool = True, watts: float = 40.0) -> list[dict[str, Any]]:
    """The rows of every step; lengths grow with the draw, and no two steps are alike."""
    section = study.train_profile
    assert section is not None
    draw, limit, size = random.Random(weights), study.train.max_completion_tokens, study.train.num_generations
    rows = []
    for step in range(1, section.steps + section.warmup_steps + 1):
        lengths = [min(limit, int(limit * draw.uniform(0.2, 1.1))) for _ in range(2 * size)]
        batches = [lengths[:size], lengths[size:]]
        factor = SLOWER[weights] * max(lengths) / limit * draw.uniform(0.97, 1.03)
        times = {part: factor * seconds for part, seconds in SECONDS.items()}
        times[STEP] = sum(times.values()) + 0.05
        joules = {f"gross_j_{part}": watts * time if metered else None for part, time in times.items()}
        joules |= {f"net_j_{part}": (watts - 10) * time if metered else None for part, time in times.items()}
        rows.append(
            {
                "step": step, "warmup": step <= section.warmup_steps, "status": "ok", "oom_part": None, "reason": None,
                **{f"{part}_s": time for part, time in times.items()},
                **{f"peak_{kind}_{part}_mib": 900.0 + 100 * PARTS.index(part) if metered else None
                   for kind in ("allocated", "reserved") for part in PARTS},
                **{f"peak_rss_{part}_mib": 700.0 for part in PARTS},
                "completions": len(lengths), "completion_tokens": lengths,
                "padded_tokens": [max(batch) for batch in batches for _ in batch],
                "at_limit": lengths.count(limit),
                "slot_steps": sum(slots(batch)[0] for batch in batches),
                "idle_slot_steps": sum(slots(batch)[1] for batch in batches),
                "group_slot_steps": sum(slots(batch)[0] for batch in batches),
                "group_idle_slot_steps": sum(slots(batch)[1] for batch in batches),
                "prompt_tokens_mean": 60.0, "prompt_indices": [step % 8], "reward": 0.3, "reward_std": 0.4,
                "frac_reward_zero_std": 0.0, "loss": 0.01, "grad_norm": 0.2, "learning_rate": 1e-5,
                **joules, "null_reason": None if metered else "no meter on this machine",
            }
        )  # fmt: skip
    return rows


def write_profile(study: Study, weights: str, *, metered: bool = True, watts: float = 40.0, **changed: Any) -> None:
    """The record of one type of the frozen base, with its table of steps."""
    rows = steps(study, weights, metered=metered, watts=watts)
    found = summarise(rows, threshold_tokens=long_tail_threshold(study))
    metrics = found.metrics | {
        "weights_on_disk_bytes": 10**9, "parameter_bytes": 4 * 10**8, "trainable_parameters": 10**6,
        "allocated_after_load_mib": 800.0 if metered else None, "peak_allocated_load_mib": 850.0 if metered else None,
        "peak_w": 1.2 * watts if metered else None, "resumed_from_step": 0,
    }  # fmt: skip
    reasons = {name: "no GPU" for name, value in metrics.items() if value is None} | found.null_reasons
    path = Layout.of(study).record(STAGE, f"base.{weights}")
    record = base_record(
        study, STAGE, {"variant": "base", "scheme": weights}, metrics=metrics, null_reasons=reasons,
        outputs={"steps": write_table(path.with_suffix(".steps.parquet"), rows)},
    )  # fmt: skip
    write_record(path, record | changed)

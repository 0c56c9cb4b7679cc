"""A small study whose records meet every expectation, and ways to change one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factories import base_record, correct_items, study_content, write_table
from gainwatt.record import file_sha256, text_sha256, write_record
from gainwatt.schemes import get_scheme
from gainwatt.study import Cell, Layout, Study, evaluation_cells, quantization_cells, trained_variants, variants

N = 20
ENVIRONMENT = {
    "python": "3.12.3", "platform": "Linux-6.1", "cpu": "a CPU", "cpu_cores": 8, "threads": "1", "memory_mib": 64000,
    "gpus": [{"index": 0, "name": "A board", "driver": "580.1", "memory_mib": 80000, "power_limit_w": 700.0}],
    "packages": {"torch": "2.11.0", "transformers": "5.17.0", "numpy": "2.2.6"},
    "git": {"commit": "c" * 40, "changed": False},
}  # fmt: skip


def make_study(folder: Path, **sections: Any) -> Study:
    return Study.model_validate(study_content(folder, **sections))


def dense_sha(variant: str) -> str:
    return text_sha256(f"dense {variant}")


def metered(phases: dict[str, float], watts: float = 300.0) -> dict[str, Any]:
    """The energy block of one board that draws `watts` all the time, from phase -> seconds."""
    window_s = sum(phases.values()) + 1.0
    joules, net_j = watts * window_s, (watts - 80.0) * window_s
    device = {
        "device": "gpu:0", "boundary": "gpu_board", "name": "A board", "gross_j": joules, "net_j": net_j,
        "counter_j": joules, "integral_j": joules * 1.001, "mean_w": watts, "max_w": watts + 20, "idle_before_w": 80.0,
        "idle_after_w": 81.0, "power_limit_w": 700.0, "power_limit_before_w": 700.0, "flags": [],
    }  # fmt: skip
    totals = [
        {"name": name, "path": name, "depth": 0, "count": 1, "seconds": s, "gross_j": watts * s, "net_j": s}
        for name, s in phases.items()
    ]  # fmt: skip
    return {
        "boundary": ["gpu_board"], "gross_j": joules, "net_j": net_j, "mean_w": watts, "window_s": window_s,
        "started_unix_s": 1.79e9, "by_boundary": {"gpu_board": {"gross_j": joules, "net_j": net_j}},
        "devices": [device], "phase_totals": totals, "flags": [], "null_reasons": {},
    }  # fmt: skip


def write(study: Study, stage: str, name: str, minute: int, phases: dict[str, float], **parts: Any) -> None:
    """A record that started at `minute` and took a minute."""
    parts = {"energy": metered(phases), "environment": ENVIRONMENT, **parts}
    cell = parts.pop("cell", {"variant": name.split(".")[0]})
    inputs = parts.pop("inputs", {})
    record = base_record(study, stage, cell, **parts)
    record["inputs"] |= inputs
    record["started_at"] = f"2026-11-21T10:{minute:02}:00+00:00"
    record["ended_at"] = f"2026-11-21T10:{minute + 1:02}:00+00:00"
    write_record(Layout.of(study).record(stage, name), record)


def write_evaluation(study: Study, cell: Cell, *, test_sha: str, minute: int = 30) -> None:
    dense = get_scheme(cell.scheme).dense
    right = correct_items(cell, N)
    rows = [
        {
            "index": i, "prompt_sha256": text_sha256(f"question {i}"), "question": f"question {i}", "gold": "1",
            "answer": "1" if ok else "2", "correct": ok, "branch": "hash", "finish_reason": "stop", "tokens": 10,
        }
        for i, ok in enumerate(right)
    ]  # fmt: skip
    path = Layout.of(study).record("evaluate_gsm8k", cell.name)
    metrics = {
        "num_examples": N, "correct": sum(right), "accuracy": sum(right) / N, "parse_rate": 1.0,
        "hit_max_new_tokens_rate": 0.0, "generated_tokens": 10 * N, "completion_tokens_mean": 10.0, "generate_s": 10.0,
        "throughput_tok_s": 1.0 * N, "resumed_items": 0, "parameter_bytes": 2**21, "allocated_after_load_mib": 3.0,
        "peak_allocated_mib": 5.0,
    }  # fmt: skip
    effective = {"do_sample": False, "max_new_tokens": 64, "batch_size": 8, "dtype": cell.scheme}
    sha256 = dense_sha(cell.variant) if dense else text_sha256(cell.name)
    write(
        study, "evaluate_gsm8k", cell.name, minute, {"load": 2.0, "generate": 10.2},
        cell={"variant": cell.variant, "scheme": cell.scheme, "engine": "transformers"}, metrics=metrics,
        inputs={
            "checkpoint": {"sha256": sha256, "parent_sha256": None if dense else dense_sha(cell.variant)},
            "data": {"sha256": test_sha},
        },
        outputs={"items": write_table(path.with_suffix(".items.parquet"), rows)},
        settings=study.settings("evaluate_gsm8k") | {"effective": effective},
    )  # fmt: skip


def write_clean(study: Study) -> None:
    """Every record of the study, consistent in hashes, times, energy and numbers."""
    layout, shas = Layout.of(study), {}
    for split in ("sft", "validation", "train", "test"):
        path = layout.data(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{split}\n", "utf-8")
        shas[split] = file_sha256(path)
    splits = {split: {"file": f"{split}.jsonl", "sha256": sha256} for split, sha256 in shas.items()}
    prepared = {"cell": {"source": "embedded"}, "outputs": splits, "metrics": {"test_items": N}}
    write(study, "prepare_data", "data", 0, {"write": 5.0}, **prepared)
    made = {"outputs": {"checkpoint": {"sha256": dense_sha("base")}}, "inputs": {"data": {"sha256": shas["sft"]}}}
    write(study, "warm_start", "base", 2, {"train": 20.0}, **made)
    for variant in trained_variants(study):
        steps = {
            "steps": 10, "step_s_mean": 2.0, "rollout_s": 12.0, "update_s": 8.0, "completions": 640,
            "rollouts_per_min": 3200.0,
        }  # fmt: skip
        inputs = {"base": {"sha256": dense_sha("base")}, "data": {"sha256": shas["train"]}}
        outputs = {"checkpoint": {"sha256": dense_sha(variant)}}
        write(study, "train_grpo", variant, 5, {"train": 21.0}, metrics=steps, inputs=inputs, outputs=outputs)
    for cell in quantization_cells(study):
        about = {"variant": cell.variant, "scheme": cell.scheme}
        inputs = {"checkpoint": {"sha256": dense_sha(cell.variant)}}
        outputs = {"checkpoint": {"sha256": text_sha256(cell.name)}}
        write(study, "quantize", cell.name, 10, {"quantize": 9.0}, cell=about, inputs=inputs, outputs=outputs)
    for variant in variants(study):
        inputs = {"checkpoint": {"sha256": dense_sha(variant)}, "base": {"sha256": dense_sha("base")}}
        write(study, "diagnose_weights", variant, 20, {"measure": 6.0}, inputs=inputs)
    for cell in evaluation_cells(study):
        write_evaluation(study, cell, test_sha=shas["test"])


def edit(study: Study, stage: str, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record on the disk without any of the checks that writing one makes."""
    path = Layout.of(study).record(stage, name)
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")

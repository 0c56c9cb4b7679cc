"""One study as two machines measured it: a board where 4 bits pay, and one where they do not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from factories import base_record, study_content, write_evaluation
from gainwatt.record import write_record
from gainwatt.study import Cell, Layout, Study
from train_profiles import write_profile

LOADS = ((1, 32, 32), (8, 32, 32))


def environment(board, cpu="a CPU", cores=8):
    gpus = (
        [{"index": 0, "name": board, "driver": "580.1", "memory_mib": 4096, "power_limit_w": 45.0}]
        if board
        else "no NVML"
    )
    return {"python": "3.12.3", "cpu": cpu, "cpu_cores": cores, "gpus": gpus, "packages": {"torch": "2.11.0"}}


def energy(board, boundary=("gpu_board",)):
    devices = [{"device": "gpu:0", "boundary": "gpu_board", "name": board, "power_limit_w": 45.0, "flags": []}]
    return {
        "boundary": list(boundary) if board else [], "devices": devices if board else [],
        "gross_j": None, "net_j": None,
        "phase_totals": [], "flags": [], "null_reasons": {"gross_j": "no meter", "net_j": "no meter"},
    }  # fmt: skip


def windows(draw, seconds, watts):
    made = []
    for _ in range(6):
        time = seconds * draw.uniform(0.99, 1.01)
        gross = None if watts is None else watts * time
        made.append({"seconds": time, "calls": 2, "work": 64.0, "gross_j": gross,
                     "net_j": gross and 0.8 * gross, "flags": []})  # fmt: skip
    return made


def write_inference(study, slower, *, board, watts=20.0, failed=(), base="b" * 64, mode="eager", **changed):
    """A record of profile_inference: NF4 takes `slower` times the seconds of fp16."""
    draw, cells = random.Random(f"{board} {slower}"), []
    for batch, prompt, new in LOADS:
        for arm, factor in (("fp16", 1.0), ("bnb-nf4", slower)):
            cell = {"arm": arm, "scheme": arm, "mode": mode, "attention": "sdpa", "baseline": arm == "fp16"}
            cell |= {"batch": batch, "prompt_tokens": prompt, "new_tokens": new, "status": "ok", "reason": None}
            cell |= {"windows": windows(draw, factor * batch**0.3, watts), "null_reasons": {}}
            if (arm, batch) in failed:
                cell |= {"status": "oom", "reason": "CUDA out of memory", "windows": []}
            cells.append(cell)
    path = Layout.of(study).record("profile_inference", "base.bnb-nf4")
    record = base_record(study, "prepare_data", {"variant": "base", "baseline": "fp16", "arms": "fp16+bnb-nf4"})
    record |= {"stage": "profile_inference", "metrics": {"cells": cells}, "environment": environment(board)}
    record["inputs"] |= {"checkpoint of fp16": {"sha256": base}, "checkpoint of bnb-nf4": {"sha256": "q" * 64}}
    record["energy"] = energy(board)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, record | changed)


def make_study(folder: Path, **section) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"bases": ["bnb-nf4", "fp16"], "steps": 12, "warmup_steps": 1} | section
    content = study_content(
        folder, train_profile=chosen, quantize={"reference": "fp16", "schemes": ["bnb-nf4"], "calibration_items": 4}
    )
    (folder / "study.yaml").write_text(json.dumps(content))
    return Study.model_validate(content)


def measure(study: Study, board: str | None, slower: float, **inference) -> Path:
    """Every record of one machine; returns its results folder."""
    for weights in study.train_profile.bases:
        inputs = {"settings": {"sha256": study.settings_sha256("profile_training")},
                  "base": {"sha256": "b" * 64}, "data": {"sha256": "d" * 64}}  # fmt: skip
        write_profile(study, weights, metered=board is not None, inputs=inputs, environment=environment(board),
                      energy=energy(board))  # fmt: skip
    write_inference(study, slower, board=board, watts=20.0 if board else None, **inference)
    for scheme in ("fp16", "bnb-nf4"):
        write_evaluation(study, Cell("base", scheme), metered=False, environment=environment(board))
    return Layout.of(study).results


@pytest.fixture
def pair(tmp_path):
    """Results folders of two machines: NF4 is 1.5 times slower on one, 0.8 times on the other."""
    boards = (("Small board", 1.5), ("Large board", 0.8))
    return [measure(make_study(tmp_path / str(i)), *board) for i, board in enumerate(boards)]

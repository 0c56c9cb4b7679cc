"""Study files and synthetic records for tests: valid, small, and the same in every run."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gainwatt.engines.base import Completion
from gainwatt.evaluation.metrics import item_rows, summarize
from gainwatt.gsm8k.data import Item
from gainwatt.record import file_sha256, text_sha256, write_record
from gainwatt.schemes import get_scheme
from gainwatt.study import DENSE, Cell, Layout, Study, evaluation_cells, quantization_cells, trained_variants, variants

ROOT = Path(__file__).parents[1]
QUESTIONS = [
    f"Anna has {a} apples and buys {b} more. How many apples does Anna have?" for a in range(9) for b in (2, 5)
]


def study_content(folder: Path, **sections: Any) -> dict[str, Any]:
    """A small study whose results go under `folder`; `sections` replace or add sections."""
    content: dict[str, Any] = {
        "study": "tiny",
        "data": {"source": "embedded", "prompt_template": "{question}"},
        "model": {"source": "embedded", "dtype": "fp32"},
        "train": {"seeds": [0]},
        "quantize": {"reference": "fp32", "schemes": ["bnb-nf4"], "calibration_items": 4},
        "statistics": {"bootstrap_draws": 200},
        "energy": {"idle_s": 0},
        "paths": {"results": str(folder / "results")},
    }
    return content | sections


def write_study(folder: Path, sections: dict[str, Any]) -> Path:
    """Write `study_content` to folder/study.yaml (JSON is YAML)."""
    path = folder / "study.yaml"
    path.write_text(json.dumps(study_content(folder, **sections)), "utf-8")
    return path


def write_items(folder: Path, *, train: int = 8, test: int = 4) -> Path:
    """A data folder with train.jsonl and test.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", train), ("test", test)):
        rows = [{"question": f"{split} {i}: what is {i} + 2?", "answer": f"{i} + 2.\n#### {i + 2}"} for i in range(n)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def items(n: int = 4) -> list[Item]:
    return [Item(i, f"What is {i} + 2?", f"{i} + 2 is {i + 2}.\n#### {i + 2}", str(i + 2)) for i in range(n)]


def run_script(name: str, *options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/NAME.py by its command line, without GPU and without the hub."""
    settings = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, options)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **settings, **environment}, check=False
    )


def script_main(name: str) -> Callable[[list[str]], int]:
    """The main function of scripts/NAME.py, for tests that would import the same heavy packages again and again."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.main


def base_record(study: Study, stage: str, cell: dict[str, str], **changed: Any) -> dict[str, Any]:
    """A record without metrics."""
    record: dict[str, Any] = {
        "stage": stage,
        "study": study.study,
        "cell": cell,
        "status": "ok",
        "reason": None,
        "metrics": {},
        "null_reasons": {},
        "settings": study.settings(stage),
        "inputs": {"settings": {"sha256": study.settings_sha256(stage)}},
        "outputs": {},
        "phases": [],
        "energy": no_energy(),
        "environment": {"python": "3.11"},
        "command": ["python", f"scripts/{stage}.py"],
    }
    return record | changed


def no_energy() -> dict[str, Any]:
    """The energy block on a machine without any meter."""
    return {
        "boundary": [], "gross_j": None, "net_j": None, "phase_totals": [], "flags": [],
        "null_reasons": {"gross_j": "no meter on this machine", "net_j": "gross_j is null"},
    }  # fmt: skip


def energy_of(phases: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    """An energy block as the meter writes it, from phase path -> (seconds, gross joules, net joules)."""
    totals = [
        {
            "name": path.rpartition("/")[2],
            "path": path,
            "depth": path.count("/"),
            "seconds": s,
            "gross_j": g,
            "net_j": n,
            "method": "counter",
        }
        for path, (s, g, n) in phases.items()
    ]
    outer = [total for total in totals if total["depth"] == 0]
    flags = [{"flag": flag, "device": "gpu0", "text": flag} for flag in ("unaligned", "short")]
    return {
        "boundary": ["gpu_board"], "gross_j": sum(t["gross_j"] for t in outer), "net_j": sum(t["net_j"] for t in outer),
        "phase_totals": totals, "flags": flags, "null_reasons": {},
    }  # fmt: skip


def phases_of(energy: dict[str, Any]) -> list[dict[str, Any]]:
    """The phases that belong to an energy block, one after the other."""
    found, start = [], 0.0
    for total in energy["phase_totals"]:
        found.append({**{key: total[key] for key in ("name", "path", "depth", "seconds")}, "start_s": start})
        start += total["seconds"] if total["depth"] == 0 else 0
    return found


def correct_items(cell: Cell, n: int) -> list[bool]:
    """Which items a cell answers: one difficulty per item, one threshold per cell, so that cells are paired."""
    threshold = 0.35 if cell.variant == "base" else 0.65 + 0.02 * int(cell.variant[-1])
    threshold -= {"bnb-nf4": 0.05, "awq-w4g128": 0.02}.get(cell.scheme, 0.0)
    return [random.Random(f"item {i}").random() < threshold for i in range(n)]


def write_table(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a parquet file; returns its entry in a record's outputs."""
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return {"file": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size}


def write_evaluation(study: Study, cell: Cell, *, n: int = 40, metered: bool = True, **changed: Any) -> Path:
    """An evaluation record with its items."""
    path = Layout.of(study).record("evaluate_gsm8k", cell.name)
    asked = items(n)
    answers = {
        i: Completion(i, f"#### {i + 2 if right else 999}", 10 + i % 3, "stop", 0.5 * (1 + i // 8), 8)
        for i, right in enumerate(correct_items(cell, n))
    }
    rows = item_rows(asked, answers, {item.index: item.question for item in asked})
    metrics = summarize(rows) | {
        "resumed_items": 0, "generate_s": 12.5, "throughput_tok_s": 34.0, "reference_nll_per_token": 0.5,
        "reference_ppl": 1.6487212707, "reference_ppl_token_count": 400,
    }  # fmt: skip
    energy = energy_of({"load": (2.0, 100.0, 40.0), "generate": (12.5, 1250.0, 500.0)}) if metered else no_energy()
    outputs = {"items": write_table(path.with_suffix(".items.parquet"), rows)}
    if metered:
        trace = [{"time_s": t / 10, "device": "gpu0", "power_w": 90.0 + t % 7} for t in range(145)]
        outputs["trace"] = write_table(path.with_suffix(".trace.parquet"), trace)
    record = base_record(
        study, "evaluate_gsm8k", {"variant": cell.variant, "scheme": cell.scheme, "engine": "transformers"},
        metrics=metrics, outputs=outputs, energy=energy, phases=phases_of(energy),
    )  # fmt: skip
    record["inputs"] |= {"checkpoint": checkpoint_input(cell), "data": {"sha256": "d" * 64}}
    record["settings"] |= {"effective": {"batch_size": 8}, "events": []}
    write_record(path, record | changed)
    return path


def write_training(study: Study, variant: str) -> Path:
    """A training record with its steps."""
    path = Layout.of(study).record("train_grpo", variant)
    rows = [
        {
            "step": step, "reward": 0.3 + step / 100, "completion_tokens_mean": 60.0 - step, "clipped_ratio": 0.1,
            "frac_reward_zero_std": 0.2, "rollout_s": 2.0, "update_s": 1.0,
        }
        for step in range(1, 13)
    ]  # fmt: skip
    energy = energy_of({"train": (36.0, 3600.0, 1800.0), "train/rollout": (24.0, 1200.0, 600.0)})
    metrics = {
        "steps": 12, "steps_this_run": 9, "resumed_from_step": 3, "reward_first": 0.31, "reward_last": 0.42,
        "frac_reward_zero_std_mean": 0.2, "rollout_s": 24.0, "update_s": 12.0, "step_s_mean": 3.0, "epochs": 0.5,
    }  # fmt: skip
    outputs = {"steps": write_table(path.with_suffix(".steps.parquet"), rows)}
    record = base_record(study, "train_grpo", {"variant": variant}, metrics=metrics, outputs=outputs, energy=energy)
    write_record(path, record | {"phases": phases_of(energy)})
    return path


def write_quantization(study: Study, cell: Cell) -> Path:
    path = Layout.of(study).record("quantize", cell.name)
    energy = energy_of({"quantize": (20.0, 800.0, 300.0)})
    metrics = {"weights_before_bytes": 4000, "weights_after_bytes": 1000, "compression_ratio": 4.0}
    record = base_record(study, "quantize", {"variant": cell.variant, "scheme": cell.scheme}, metrics=metrics)
    record["settings"]["layer_errors"] = {"a": {"initial": 2.0, "best": 1.0}, "b": {"initial": 4.0, "best": 2.0}}
    write_record(path, record | {"energy": energy, "phases": phases_of(energy)})
    return path


def checkpoint_input(cell: Cell) -> dict[str, str | None]:
    """What an evaluation says of its checkpoint: an unquantized one is the variant's own, a quantized one its child."""
    dense = get_scheme(cell.scheme).dense
    return {
        "sha256": text_sha256(cell.variant if dense else cell.name),
        "parent_sha256": None if dense else text_sha256(cell.variant),
        "variant": cell.variant,
        "scheme": DENSE if dense else cell.scheme,
    }


def write_diagnosis(study: Study, variant: str) -> Path:
    """A diagnosis; one of a trained variant has flips of its own and of noise, and of the stored NF4 checkpoint."""
    path = Layout.of(study).record("diagnose_weights", variant)
    trained = variant != "base"
    names = [f"model.layers.{layer}.{part}" for layer in range(3) for part in ("self_attn.q_proj", "mlp.down_proj")]
    rows = [
        {
            "module_name": name,
            "w4_relative_mse": 0.01 + i // 2 / 1000 + trained / 500,
            "max_abs": i + 2,
            "median_abs": 0.5,
        }
        for i, name in enumerate(names)
    ]
    metrics = {"weights": 1000, "kurtosis_weighted": 3.5, "top_relative_mse": [{"module": "x", "value": 1.0}]}
    metrics |= {"relative_mse_symmetric_w4_pooled": 0.012 + trained * 0.003, "relative_mse_bnb_nf4_pooled": 0.008}
    if trained:
        metrics |= {"relative_update_norm": 0.01, "code_flip_frac_bnb_nf4": 0.03, "random_code_flip_frac_bnb_nf4": 0.02}
    outputs = {"layers": write_table(path.with_suffix(".layers.parquet"), rows)}
    if variant in variants(study) and "bnb-nf4" in study.quantize.schemes:
        stored = [{"scheme": "bnb-nf4", "module_name": name, "relative_mse": 0.009} for name in names]
        outputs["stored"] = write_table(path.with_suffix(".stored.parquet"), stored)
        metrics["stored_relative_mse_bnb_nf4"] = 0.009
        if trained:
            numbers = {"code_flip_frac": 0.04, "quantized_change_ratio": 5.0, "quantized_change_cosine": 0.2}
            metrics |= {f"stored_{name}_bnb_nf4": value for name, value in numbers.items()}
    record = base_record(study, "diagnose_weights", {"variant": variant}, metrics=metrics, outputs=outputs)
    record["inputs"] |= {"checkpoint": {"sha256": text_sha256(variant)}}
    write_record(path, record)
    return path


def write_all_records(study: Study, *, n: int = 40) -> None:
    """Every record of a study that the tables and figures read."""
    for cell in evaluation_cells(study):
        write_evaluation(study, cell, n=n)
    for cell in quantization_cells(study):
        write_quantization(study, cell)
    for variant in trained_variants(study):
        write_training(study, variant)
    for variant in variants(study):
        write_diagnosis(study, variant)

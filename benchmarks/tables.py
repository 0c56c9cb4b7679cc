"""Time tables and figures from many synthetic records: `python benchmarks/tables.py`.

Makes one study with as many training seeds as it takes for --records records (evaluations with --items items each,
quantizations, trainings, diagnoses), then runs scripts/make_tables.py and scripts/make_figures.py on them as a user
would. Prints wall and processor seconds and the peak of main memory; with --profile where the time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import factories  # noqa: E402
from gainwatt.evaluation.metrics import summarize  # noqa: E402
from gainwatt.study import (  # noqa: E402
    Cell,
    Layout,
    Study,
    evaluation_cells,
    load_study,
    quantization_cells,
    trained_variants,
    variants,
)

PER_VARIANT = 7  # three evaluations, two quantizations, a training, a diagnosis


def study_file(folder: Path, records: int) -> Path:
    """The study whose records come to about `records`; the base is one variant, without training."""
    seeds = list(range(max(1, round((records + 1) / PER_VARIANT) - 1)))
    return factories.write_study(
        folder,
        {
            "train": {"seeds": seeds},
            "quantize": {"reference": "fp32", "schemes": ["bnb-nf4", "awq-w4g128"], "calibration_items": 4},
            "statistics": {"bootstrap_draws": 10_000},
        },
    )


def answers(n: int) -> dict[bool, list[dict[str, Any]]]:
    """Scored rows of `n` items, all right and all wrong; a cell picks from both."""
    asked = factories.items(n)
    found = {}
    for right in (True, False):
        given = {
            item.index: factories.Completion(
                item.index, f"#### {item.gold if right else 999}", 60, "stop", 0.5 * (1 + item.index // 8), 8
            )
            for item in asked
        }
        found[right] = factories.item_rows(asked, given, {item.index: item.question for item in asked})
    return found


def write_evaluation(study: Study, cell: Cell, pool: dict[bool, list[dict[str, Any]]], entry_of: Any) -> None:
    """An evaluation record whose right answers follow from the cell's name."""
    draw = random.Random(cell.name)
    level = 0.35 if cell.variant == "base" else 0.55
    rows = [pool[draw.random() < level][i] for i in range(len(pool[True]))]
    energy = factories.energy_of({"load": (2.0, 100.0, 40.0), "generate": (12.5, 1250.0, 500.0)})
    tokens_s = sum(row["tokens"] for row in rows) / 12.5
    metrics = summarize(rows) | {"resumed_items": 0, "generate_s": 12.5, "throughput_tok_s": tokens_s}
    path = Layout.of(study).record("evaluate_gsm8k", cell.name)
    record = factories.base_record(
        study, "evaluate_gsm8k", {"variant": cell.variant, "scheme": cell.scheme, "engine": "transformers"},
        metrics=metrics, outputs={"items": factories.write_table(path.with_suffix(".items.parquet"), rows)},
        energy=energy, phases=factories.phases_of(energy), **entry_of("evaluate_gsm8k"),
    )  # fmt: skip
    record["inputs"] = record["inputs"] | {
        "checkpoint": factories.checkpoint_input(cell),
        "data": {"sha256": "d" * 64},
    }
    record["settings"] = record["settings"] | {"effective": {"batch_size": 8}, "events": []}
    factories.write_record(path, record)


def write_records(study: Study, items: int) -> int:
    """Every record of the study; returns how many."""
    os.fsync = lambda _: None  # thousands of small files need not survive a power cut
    settings: dict[str, dict[str, Any]] = {}

    def entry_of(stage: str) -> dict[str, Any]:
        if stage not in settings:
            sha256 = study.settings_sha256(stage)
            settings[stage] = {"settings": study.settings(stage), "inputs": {"settings": {"sha256": sha256}}}
        return settings[stage]

    pool = answers(items)
    for cell in evaluation_cells(study):
        write_evaluation(study, cell, pool, entry_of)
    for cell in quantization_cells(study):
        factories.write_quantization(study, cell)
    for variant in trained_variants(study):
        factories.write_training(study, variant)
    for variant in variants(study):
        factories.write_diagnosis(study, variant)
    return sum(1 for _ in Layout.of(study).results.rglob("*.json"))


def timed(script: str, study: Path, *options: str) -> str:
    """Run a script; returns its wall and processor seconds and its peak of memory."""
    start = time.perf_counter()
    command = [sys.executable, *options, str(ROOT / "scripts" / f"{script}.py"), "--study", str(study)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{script} failed")
    wall_s, cpu_s = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return f"{script:13} {wall_s:6.1f} s wall, {cpu_s:6.1f} s processor, {usage.ru_maxrss / 1024:6.0f} MiB"


def main() -> None:
    """Make the records, run the scripts, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000, help="records to make (10000)")
    parser.add_argument("--items", type=int, default=100, help="items of each evaluation (100)")
    parser.add_argument("--folder", type=Path, help="keep the records here, and use those that are there")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "study.yaml"
        if not file.exists():
            study_file(folder, args.records)
            start = time.perf_counter()
            made = write_records(load_study(file), args.items)
            print(f"{made} records with {args.items} items made in {time.perf_counter() - start:.0f} s", flush=True)
        options = ("-m", "cProfile", "-s", "cumulative") if args.profile else ()
        for script in ("make_tables", "make_figures"):
            print(timed(script, file, *options), flush=True)
        size = sum(path.stat().st_size for path in (folder / "results").rglob("*.csv"))
        print(json.dumps({"tables_mib": round(size / 2**20, 1)}))


if __name__ == "__main__":
    main()

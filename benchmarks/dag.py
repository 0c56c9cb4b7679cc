"""Time the workflow's own part in a large study: `python benchmarks/dag.py`.

Makes a study of --cells cells, times a dry run (start, parsing, the graph of all jobs, choosing what would run) and,
with --run, sends every job through the local executor of Snakemake. The jobs do nothing: in place of the interpreter
stands a shell script that makes the files that the rule promises. Its own time is measured and taken off, so that
what is left per job is Snakemake's. Targets: the graph in 10 s, 0.1 s per job.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCHEMES = ["fp16", "bnb-nf4", "bnb-int8", "awq-w4g128"]
STAND_IN = """#!/bin/sh
# In place of a rule's script: makes the files that its options name.
script=$(basename "$1")
shift
while [ $# -gt 0 ]; do
  case $1 in
    --record | --manifest) : > "$2"; [ "$1" = --record ] && record=$2; shift ;;
  esac
  shift
done
if [ "$script" = prepare_data.py ]; then
  for split in sft train validation test; do : > "${record%/records/*}/data/$split.jsonl"; done
fi
"""


def make_study(folder: Path, cells: int) -> int:
    """Write study.yaml with at least `cells` cells, and the stand-in; returns how many evaluations there are."""
    per_variant = 1 + len(SCHEMES)
    variants = -(-cells // per_variant)
    stand_in = folder / "stand-in"
    stand_in.write_text(STAND_IN, "utf-8")
    stand_in.chmod(0o755)
    study = {
        "study": "large",
        "data": {"source": "embedded"},
        "model": {"source": "embedded", "dtype": "bf16"},
        "train": {"seeds": list(range(variants - 1))},
        "quantize": {"reference": "bf16", "schemes": SCHEMES},
        "environments": {"core": str(stand_in)},
    }
    (folder / "study.yaml").write_text(json.dumps(study), "utf-8")
    return variants * per_variant


def snakemake(folder: Path, *options: str) -> tuple[float, float, str]:
    """Wall seconds, processor seconds (of Snakemake and of what it started) and output of one run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += [*options, "--config", "study=study.yaml"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout + done.stderr


def stand_in_s(folder: Path) -> float:
    """Wall seconds that one stand-in takes when it is started through bash as a rule does."""
    command = ["bash", "-c", f"{folder}/stand-in x.py --record {folder}/record --manifest {folder}/manifest"]
    began = time.perf_counter()
    for _ in range(50):
        subprocess.run(command, check=True)
    return (time.perf_counter() - began) / 50


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000, help="cells of the matrix (default: 1000)")
    parser.add_argument("--run", action="store_true", help="also run every job")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cells = make_study(folder, args.cells)
        wall, cpu, said = snakemake(folder, "--dry-run", "--quiet", "rules", "--cores", "1")
        total = re.search(r"^total +(\d+)", said, re.MULTILINE)
        print(f"{cells} cells, {total[1] if total else '?'} jobs: dry run {wall:.1f} s wall, {cpu:.1f} s processor")
        if not args.run:
            return
        records = [f"results/large/records/evaluate_gsm8k/base.{scheme}.json" for scheme in ["bf16", *SCHEMES]]
        variants = cells // len(records)
        wanted = [path.replace("base.", f"{name}.") for path in records
                  for name in ["base", *(f"grpo-s{seed}" for seed in range(variants - 1))]]  # fmt: skip
        wall, cpu, said = snakemake(folder, "--quiet", "all", "--cores", str(args.cores), *wanted)
        made = len(list(folder.glob("results/large/benchmarks/*/*.tsv")))
        own = stand_in_s(folder)
        overhead = (wall * min(args.cores, made) - own * made) / made
        print(f"{made} jobs on {args.cores} cores: {wall:.1f} s wall, {cpu:.1f} s processor; "
              f"{wall / made * 1000:.0f} ms a job, {own * 1000:.0f} ms of it the stand-in on one core; "
              f"at most {overhead * 1000:.0f} ms of one core are the workflow's")  # fmt: skip


if __name__ == "__main__":
    main()

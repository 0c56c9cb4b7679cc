"""Dry runs of the workflow: exactly the jobs that a study asks for, without the hub and without heavy imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from factories import ROOT, study_content, write_items, write_study
from gainwatt.study import (
    Layout,
    Study,
    evaluation_cells,
    load_study,
    quantization_cells,
    schemes,
    trained_variants,
)
from gainwatt.study.branches import branch_records
from gainwatt.weights.variants import control_variants, diagnosed_variants
from gainwatt.workflow import QUALITY, base_stage

STUDIES = sorted((ROOT / "config").glob("*.yaml"))


def snakemake(folder: Path, *options: str, config: tuple[str, ...] = (), python: tuple[str, ...] = ()):
    """A dry run in an empty working folder, so that results on this machine play no part."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAINWATT_")}
    command = [sys.executable, *python, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--dry-run", "--nolock", "--cores", "1", *options, "--config", *config]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**environment, "HF_HUB_OFFLINE": "1"}
    )


def jobs(text: str) -> Counter[tuple[str, str]]:
    """(rule, record or other first output) of every job that a dry run lists."""
    found: Counter[tuple[str, str]] = Counter()
    for block in re.split(r"\n(?=(?:local)?rule )", text):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        if rule:
            outputs = re.search(r"^    output: (.*)$", block, re.MULTILINE)
            names = outputs[1].split(", ") if outputs else [""]
            records = [name for name in names if "/records/" in name]
            found[rule[1], (records or names)[0]] += 1
    return found


def expected(study: Study) -> set[tuple[str, str]]:
    layout = Layout.of(study)
    # llama.cpp may have a model of its own, everything else starts from the base and the questions.
    others = {stage for stage, _ in branch_records(study)} - {"fetch_gguf", "profile_llamacpp"}
    own = study.llamacpp is not None and study.llamacpp.source == "base"
    wanted = {("prepare_data", "data"), (base_stage(study), "base")} if study.matrix or others or own else set()
    wanted |= {("train_grpo", variant) for variant in trained_variants(study)}
    wanted |= {("quantize", cell.name) for cell in quantization_cells(study)}
    wanted |= {("evaluate_gsm8k", cell.name) for cell in evaluation_cells(study)}
    wanted |= {("diagnose_weights", variant) for variant in diagnosed_variants(study)}
    wanted |= {("train_sft_control", variant) for variant in control_variants(study)}
    quality = [stage for stage, section in QUALITY.items() if getattr(study, section) is not None]
    wanted |= {(stage, cell.name) for stage in quality for cell in evaluation_cells(study)}
    # One session writes the records of all arms; an arm's is not the first output of a job.
    wanted |= {(s, name) for s, name in branch_records(study) if s != "profile_llamacpp" or name == "session"}
    records = {(stage, str(layout.record(stage, cell))) for stage, cell in wanted}
    ends = {("make_tables", str(layout.tables / "summary.md")), ("make_figures", str(layout.figures / "index.json"))}
    ends |= {("validate", str(layout.tables / "validation.csv")), ("check", str(layout.tables / "checked.json"))}
    ends |= {("make_report", str(layout.results / "report.html"))}
    return records | ends | {("all", "")}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_runs_exactly_its_jobs(path, tmp_path):
    done = snakemake(tmp_path, config=(f"study={path}",))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = jobs(done.stdout + done.stderr)
    assert set(found) == expected(load_study(path))
    assert set(found.values()) == {1}


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "h200").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_without_matrix_makes_besides_only_checkpoints_that_it_measures(path, tmp_path):
    done = snakemake(tmp_path, config=(f"study={path}",))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found, wanted = set(jobs(done.stdout + done.stderr)), expected(load_study(path))
    assert wanted <= found
    assert {rule for rule, _ in found - wanted} <= {"train_grpo", "quantize"}


def test_the_real_studies_are_as_large_as_planned():
    for name in ("qwen2.5-0.5b", "qwen2.5-1.5b"):
        study = load_study(ROOT / "config" / f"{name}.yaml")
        assert len(evaluation_cells(study)) == 4 * 7
        assert len(quantization_cells(study)) == 4 * 5
        assert study.data.test_limit is None


def test_a_local_folder_and_overrides(tmp_path, tiny_folder):
    data = write_items(tmp_path / "data")
    content = study_content(tmp_path, data={"source": str(data)}, model={"source": str(tiny_folder)})
    path = write_study(tmp_path, content)
    overrides = ["train.seeds=[1, 2]", "quantize.schemes=[]"]
    done = snakemake(tmp_path, config=(f"study={path}", f"set={json.dumps(overrides)}"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(jobs(done.stdout + done.stderr)) == expected(load_study(path, overrides))


def test_perplexity_and_tasks_run_for_every_cell_where_the_study_asks_for_them(tmp_path):
    path = write_study(tmp_path, study_content(tmp_path))
    overrides = ['perplexity={corpus: "data:validation"}', "tasks={names: [hellaswag]}"]
    done = snakemake(tmp_path, config=(f"study={path}", f"set={json.dumps(overrides)}"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "make env NAME=lm-eval" in done.stdout + done.stderr
    rules = Counter(rule for rule, _ in jobs(done.stdout + done.stderr))
    cells = len(evaluation_cells(load_study(path)))
    assert (rules["evaluate_perplexity"], rules["evaluate_tasks"]) == (cells, cells)


def test_without_matrix_a_variant_that_is_served_is_trained_first(tmp_path):
    sections = {"matrix": False, "serve": {"variants": ["base", "grpo-s0"], "offline": {"batch_sizes": [2]}}}
    path = write_study(tmp_path, study_content(tmp_path, **sections))
    done = snakemake(tmp_path, config=(f"study={path}",))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rules = Counter(rule for rule, _ in jobs(done.stdout + done.stderr))
    assert (rules["train_grpo"], rules["evaluate_gsm8k"], rules["diagnose_weights"]) == (1, 0, 0)
    assert rules["benchmark_serving"] == 2 * len(schemes(load_study(path)))


def test_fetch_brings_gguf_files_alone_where_nothing_else_is_measured(tmp_path):
    done = snakemake(tmp_path, "fetch", config=(f"study={ROOT / 'config' / 'tinyllama.yaml'}",))
    assert done.returncode == 0, done.stderr
    assert {rule for rule, _ in jobs(done.stdout + done.stderr)} == {"fetch", "fetch_gguf"}


def test_fetch_brings_data_and_model_only(tmp_path):
    done = snakemake(tmp_path, "fetch", config=(f"study={ROOT / 'config' / 'qwen2.5-0.5b.yaml'}",))
    assert done.returncode == 0, done.stderr
    assert {rule for rule, _ in jobs(done.stdout + done.stderr)} == {"fetch", "prepare_data", "fetch_model"}


def test_fetch_brings_the_texts_of_the_hub_as_well(tmp_path):
    quality = ["perplexity={corpus: 'hub:o/n', revision: abc}", "tasks={names: [hellaswag]}"]
    config = (f"study={ROOT / 'config' / 'qwen2.5-0.5b.yaml'}", f"set={json.dumps(quality)}")
    done = snakemake(tmp_path, "fetch", config=config)
    assert done.returncode == 0, done.stderr
    rules = {rule for rule, _ in jobs(done.stdout + done.stderr)}
    assert rules == {"fetch", "prepare_data", "fetch_model", "fetch_corpus", "fetch_tasks"}


def imported(stderr: str) -> set[str]:
    """The modules that python -X importtime lists."""
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_parsing_imports_nothing_heavy(tmp_path):
    done = snakemake(tmp_path, config=(f"study={STUDIES[0]}",), python=("-X", "importtime"))
    assert done.returncode == 0, done.stderr[-3000:]
    # Snakemake imports its plugins whatever is parsed, and the one for Slurm imports pandas.
    alone = [sys.executable, "-X", "importtime", "-c", "import snakemake.cli"]
    plugins = subprocess.run(alone, capture_output=True, text=True, timeout=120, check=True)
    ours = imported(done.stderr) - imported(plugins.stderr)
    assert "gainwatt.study.model" in ours
    assert not ours & {"torch", "transformers", "pandas", "pyarrow", "matplotlib", "datasets", "trl"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (("stduy=x.yaml",), "--config has no key 'stduy'"),
        (("set=evaluate.batchsize=8", f"study={STUDIES[0]}"), "did you mean 'batch_size'?"),
        (("study=broken.yaml",), "trian: there is no such key; did you mean 'train'?"),
    ],
)
def test_mistakes_end_with_the_plain_message(tmp_path, config, said):
    text = "study: x\ndata: {source: embedded}\nmodel: {source: embedded}\ntrian: {}\n"
    (tmp_path / "broken.yaml").write_text(text)
    done = snakemake(tmp_path, config=config)
    message = done.stdout + done.stderr
    assert done.returncode == 1
    assert said in message
    assert "what to do:" in message
    assert "Traceback" not in message

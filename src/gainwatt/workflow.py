"""What the Snakemake rules ask of a study: paths of targets, what a rule needs, which interpreter runs it.

Parsing a Snakefile imports this module; it must not import anything heavy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.heads.prompts import prompt_files
from gainwatt.llamacpp import targets as llamacpp
from gainwatt.perplexity.corpus import KEPT, corpus_files
from gainwatt.schemes import get_scheme
from gainwatt.study import (
    BASE,
    DENSE,
    Layout,
    Study,
    evaluation_cells,
    is_hub,
    load_study,
    quantization_cells,
    quantized_schemes,
    trained_variants,
    variants,
)
from gainwatt.study.branches import KINDS, branch_records, part_records
from gainwatt.study.operations import Needs
from gainwatt.study.profiling_cells import groups
from gainwatt.study.quality import Perplexity
from gainwatt.study.serving_cells import served_cells
from gainwatt.weights.variants import control_variants, diagnosed_variants

DEFAULT_STUDY = "config/demo.yaml"
STUDY_VARIABLE = "GAINWATT_STUDY"
OVERRIDES_VARIABLE = "GAINWATT_SET"
GIVEN_GPUS = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "ROCR_VISIBLE_DEVICES")
"""Variables of which Slurm sets one in a job that it has given GPUs."""
QUALITY = {"evaluate_perplexity": "perplexity", "evaluate_tasks": "tasks"}
"""Stages that run for every cell where the study has their section."""


def study_from_config(config: Mapping[str, Any], root: Path) -> Study:
    """The study that `snakemake --config study=FILE set='["evaluate.batch_size=8"]'` names.

    The choice is handed to the scripts through the environment, not through rule parameters: Snakemake would otherwise
    run every rule again when any setting changes. A rule names the settings that decide its result by their hash.
    """
    unknown = set(config) - {"study", "set"}
    if unknown:
        raise InputError(f"--config has no key {min(unknown)!r}", "the keys are: study=FILE, set=SECTION.KEY=VALUE")
    path = str(config.get("study", DEFAULT_STUDY))
    overrides = _overrides(config.get("set", []))
    study = load_study(path, overrides)
    if "SLURM_JOB_ID" in os.environ:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # `fetch` has brought everything; a node must not try for minutes
        if not any(name in os.environ for name in GIVEN_GPUS):
            # Nodes that do not fence GPUs off show a job all of them, and those that it was not given are other jobs'.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ[STUDY_VARIABLE] = path
    os.environ[OVERRIDES_VARIABLE] = json.dumps(overrides)
    source = str(root / "src")
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != source]
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *others])
    return study


def _overrides(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    if not isinstance(value, list):
        value = [value]
    return [str(entry) for entry in value]


def needs(study: Study, kind: str) -> Needs:
    """What a kind of rule (light, prepare, train, quantize, evaluate, diagnose) asks of the machine."""
    found = getattr(study.resources, kind)
    assert isinstance(found, Needs)  # noqa: S101 - a rule that names no kind is a bug of the workflow
    return found


def growing(amount: int) -> Callable[..., int]:
    """A Snakemake resource that grows with the attempt: twice as much on the second, three times on the third."""

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return amount * attempt

    return of_attempt


def interpreter(study: Study, kind: str, scheme: str | None = None) -> str:
    """The python that runs a rule's script: the study's own choice, the pinned environment, or this one.

    A quantization scheme may have an environment of its own; it then goes before what the study says of the rule.
    """
    name = environment_of(study, kind, scheme)
    found = find_interpreter(study, name)
    return found or (sys.executable if name == "core" else str(_pinned(name)))


def environment_of(study: Study, kind: str, scheme: str | None = None) -> str:
    """The environment that a rule's script runs in, for a scheme where the rule has one."""
    name = needs(study, kind).environment
    if scheme is None:
        return name
    entry = get_scheme(scheme)
    special = entry.environment
    if kind in ("evaluate", "perplexity", "heads", "serve"):
        engine = {"evaluate": study.evaluate.engine, "serve": study.serve.engine if study.serve else "transformers"}
        loader = entry.loader(engine.get(kind, "transformers"))
        # An engine that cannot load the scheme says so itself, as a result; any environment will do for that.
        special = loader.environment if loader else "core"
    return name if special == "core" else special


def find_interpreter(study: Study, environment: str) -> str | None:
    """The python of an environment: the one that the study names, or .envs/NAME; None where there is none."""
    if environment in study.environments:
        return study.environments[environment]
    pinned = _pinned(environment)
    return str(pinned) if pinned.exists() else None


def lacking_environments(study: Study) -> list[str]:
    """Environments that the study needs and that this machine does not have."""
    return [name for name in environments_of(study) if name != "core" and find_interpreter(study, name) is None]


def environments_of(study: Study) -> list[str]:
    """Environments that the study needs: core, which holds the workflow itself, first."""
    cells = [("quantize", cell.scheme) for cell in quantization_cells(study)]
    cells += [("evaluate", cell.scheme) for cell in evaluation_cells(study)]
    if study.perplexity is not None:
        cells += [("perplexity", cell.scheme) for cell in evaluation_cells(study)]
    names = {environment_of(study, kind, scheme) for kind, scheme in cells}
    names |= {environment_of(study, "train")} if variants(study)[1:] else set()
    names |= {environment_of(study, KINDS[stage]) for stage, _ in branch_records(study)}
    names |= {group.environment for group in groups(study)}
    names |= {environment_of(study, "serve", cell.scheme) for cell in served_cells(study)}
    if study.tasks is not None and study.matrix:
        names.add(environment_of(study, "tasks"))
    return ["core", *sorted(names - {"core"})]


def lacking(study: Study) -> str | None:
    """What to say before anything runs on a machine without an environment that the study needs; None where all are."""
    names = lacking_environments(study)
    if not names:
        return None
    commands = " && ".join(f"make env NAME={name}" for name in names)
    return (
        f"the study needs environments that are not on this machine: {commands} (or name an interpreter: environments)"
    )


def with_interpreter(command: str) -> str:
    """A rule's shell command that says which environment is missing where `params.python` is not there."""
    return (
        "python='{params.python}'; python=${{python##* -- }}; command -v ${{python%% *}} > /dev/null || {{ "
        'echo "error: there is no interpreter $python" > {log}; '
        "echo '  what to do: make env NAME={params.environment}' >> {log}; cat {log} >&2; exit 4; }}; " + command
    )


def _pinned(environment: str) -> Path:
    return Path(".envs") / environment / "bin" / "python"


def leased(study: Study, kind: str, scheme: str | None = None, *, gpus: int | None = None) -> str:
    """The interpreter, with GPUs of its own where the rule asks for GPUs (see gainwatt.lease).

    `gpus` where the rule uses fewer than its kind has.
    """
    return _lease(study, needs(study, kind).gpus if gpus is None else gpus) + interpreter(study, kind, scheme)


def _lease(study: Study, gpus: int) -> str:
    core = find_interpreter(study, "core") or sys.executable
    return f"{core} -m gainwatt.lease --gpus {gpus} -- " if gpus else ""


def local_sources(study: Study) -> list[str]:
    """Files of a local data folder, none for the hub and for generated problems, and what a warm start sees besides."""
    source = study.data.source
    more = list(study.embedded.problems.more_sft) if "embedded" in (source, study.model.source) else []
    if source == "embedded" or is_hub(source):
        return more
    return [str(Path(source) / f"{split}.jsonl") for split in ("train", "test")] + more


def corpus(study: Study, layout: Layout) -> list[str]:
    """Files that perplexity is measured on; nothing for the hub, and where the study does not measure it."""
    return [] if study.perplexity is None else [str(path) for path in corpus_files(study.perplexity, layout.data)]


def head_prompts(study: Study, layout: Layout) -> list[str]:
    """Files with the prompts that attention heads are scored on; nothing where the study takes the package's own."""
    return [] if study.heads is None else [str(path) for path in prompt_files(study.heads, layout.data)]


def head_corpus(study: Study, layout: Layout) -> list[str]:
    """Files that the perplexity of pruned models is measured on; nothing for the hub, and without a pruning curve."""
    prune = study.heads and study.heads.prune
    return [str(path) for path in corpus_files(prune.perplexity, layout.data)] if prune else []


def hub_corpus(study: Study) -> Perplexity | None:
    """The data set of the hub that the perplexity of cells or of pruned models is measured on; None without one."""
    prune = study.heads and study.heads.prune
    asked = (study.perplexity, prune.perplexity if prune else None)
    return next((found for found in asked if found is not None and is_hub(found.corpus)), None)


def base_stage(study: Study) -> str:
    """The stage that brings the base model: `warm_start` for the embedded model, else `fetch_model`."""
    return "warm_start" if study.model.source == "embedded" else "fetch_model"


def records(study: Study, layout: Layout) -> list[str]:
    """Every record that the tables are made of."""
    cells = [layout.record("evaluate_gsm8k", cell.name) for cell in evaluation_cells(study)]
    diagnoses = [layout.record("diagnose_weights", variant) for variant in diagnosed_variants(study)]
    quality = [stage for stage, section in QUALITY.items() if getattr(study, section) is not None]
    more = [layout.record(stage, cell.name) for stage in quality for cell in evaluation_cells(study)]
    branches = [layout.record(stage, name) for stage, name in branch_records(study)]
    return [str(path) for path in (*cells, *diagnoses, *more, *branches)]


def every_record(study: Study, layout: Layout) -> list[str]:
    """Every record of the study: those of `records`, and those of the stages before them."""
    made = [layout.record("prepare_data", "data"), layout.record(base_stage(study), BASE)] if study.matrix else []
    made += [layout.record("train_grpo", variant) for variant in trained_variants(study)]
    made += [layout.record("quantize", cell.name) for cell in quantization_cells(study)]
    made += [layout.record("train_sft_control", variant) for variant in control_variants(study)]
    return list(dict.fromkeys([*map(str, made), *records(study, layout)]))


def diagnosis_options(study: Study, layout: Layout, variant: str) -> dict[str, list[str]]:
    """Options of diagnose_weights.py beside the checkpoint and its base, each with its values.

    A control is diagnosed without quantized checkpoints: it is not evaluated.
    """
    options: dict[str, list[str]] = {}
    if variant in variants(study):
        for option, name in (("--quantized", variant), ("--base-quantized", BASE)):
            if option == "--quantized" or variant != BASE:
                options[option] = [f"{s}={layout.manifest(name, s)}" for s in quantized_schemes(study)]
    if study.diagnose.outputs:
        options["--data"] = [str(layout.data("train"))]
    return options


def part_names(study: Study, stage: str, name: str) -> list[str]:
    """Names of the records that a rule writes beside the one called `name`: one more makes the rule run again."""
    return [part for of, part in part_records(study) if of == stage and part.startswith(f"{name}.")]


def products(study: Study, layout: Layout) -> list[str]:
    """What a run makes for people to read."""
    return [str(layout.tables / "summary.md"), str(layout.figures / "index.json"), str(layout.results / "report.html")]


def fetched(study: Study, layout: Layout) -> list[str]:
    """What must be at hand before jobs run on machines without internet: data, base model, texts, GGUF files."""
    paths = llamacpp.downloads(study, layout)
    if not study.matrix and {stage for stage, _ in branch_records(study)} <= llamacpp.stages_without_base(study):
        return [str(path) for path in paths]
    splits = ["train", "test"] + (["sft", "validation"] if study.model.source == "embedded" else [])
    paths += [layout.data(split) for split in splits]
    if study.model.source != "embedded":
        paths.append(layout.manifest(BASE, DENSE))
    if hub_corpus(study) is not None:
        paths.append(layout.data(KEPT))
    if study.tasks is not None:
        paths.append(kept_tasks(layout))
    return [str(path) for path in paths]


def kept_tasks(layout: Layout) -> Path:
    """The list of the tasks' data sets that scripts/fetch_tasks.py has brought."""
    return layout.data("tasks").with_suffix("") / "fetched.json"

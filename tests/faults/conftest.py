"""A study of seconds, run once undisturbed, and a way to stop a script at a chosen one of its writes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from factories import ROOT

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a shell script Ctrl-C is ignored, and every process started from here would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

STUDY: dict[str, Any] = {
    "study": "tiny",
    "data": {"source": "embedded", "prompt_template": "{question}"},
    "model": {"source": "embedded", "dtype": "fp32"},
    "embedded": {
        "problems": {
            "sft_items": 60, "drill_items": 10, "train_items": 16, "validation_items": 4, "test_items": 8,
        },
        "model": {"hidden_size": 128, "intermediate_size": 128, "layers": 1, "heads": 2, "kv_heads": 1},
        "warm_start": {"steps": 8, "batch_size": 4, "warmup_steps": 2, "save_steps": 2},
    },
    "train": {
        "seeds": [0], "max_steps": 4, "save_steps": 1, "precision": "fp32", "gradient_checkpointing": False,
        "num_generations": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
        "max_completion_tokens": 8, "learning_rate": 1e-3, "weight_decay": 0.1, "zero_variance_patience_steps": 9,
    },
    "quantize": {"reference": "fp32", "schemes": ["bnb-nf4"], "calibration_items": 4},
    "evaluate": {"batch_size": 4, "max_new_tokens": 8, "reference_nll": False},
    "statistics": {"bootstrap_draws": 200},
    "energy": {"idle_s": 0},
}  # fmt: skip

CELL = ("--variant", "grpo-s0", "--scheme", "bnb-nf4")
HEADS = (
    "heads={max_prompts: 5, permutations: 199, prune: {percents: [50], random_draws: 1, items: 3, "
    "perplexity: {corpus: 'data:validation', window: 32, stride: 16}}}"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "prepare_data": (),
    "warm_start": (),
    "train_grpo": ("--variant", "grpo-s0"),
    "quantize": CELL,
    "evaluate_gsm8k": CELL,
    "evaluate_perplexity": (*CELL, "--set", "perplexity={corpus: 'data:validation', window: 32, stride: 16}"),
    "profile_inference": (
        "--group",
        "grpo-s0.bnb-nf4",
        "--set",
        "profile={variants: [grpo-s0], baseline: fp32, batches: [1, 2], prompt_tokens: [4], new_tokens: [2], "
        "repeats: 2, window_s: 0, warmup_runs: 0, kernels: false}",
    ),
    "score_heads": ("--variant", "grpo-s0", "--scheme", "fp32", "--set", HEADS),
    "prune_heads": ("--variant", "grpo-s0", "--set", HEADS),
    "train_sft_control": (),
    "diagnose_weights": ("--variant", "grpo-s0"),
    "profile_training": (
        "--scheme",
        "fp32",
        "--set",
        "train_profile={bases: [fp32], steps: 3, warmup_steps: 1, save_steps: 1}",
    ),
    "make_tables": (),
    "make_figures": (),
    "validate": ("--report-only",),
    "make_report": (),
}

# Runs before a script's first line: counts what it does to files below FAULT_ROOT, and stops it where it was told to.
HOOK = """
import os, signal, sys
root, log, at = (os.environ.get("FAULT_" + name) for name in ("ROOT", "LOG", "AT"))
count = 0

def hook(event, args):
    global count
    if event == "open":
        path, writes = args[0], args[2] & (os.O_WRONLY | os.O_RDWR)
    elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        path, writes = args[1] if event == "os.rename" else args[0], True
    else:
        return
    if not writes or isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(root):
        return
    count += 1
    what = f"{event} {os.path.relpath(os.fsdecode(path), root)}"
    if at in (str(count), what):
        os.kill(os.getpid(), getattr(signal, os.environ["FAULT_SIGNAL"]))
    if log:
        events.write(what + "\\n")
        events.flush()

# Snakemake, which starts scripts, is left alone.
if root and any(word.endswith(".py") and "scripts" in word for word in sys.orig_argv):
    if log:
        events = open(log, "w")
    sys.addaudithook(hook)
"""


@dataclass
class Place:
    """A working folder with the study, and the scripts run in it."""

    folder: Path
    hook: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    @property
    def events(self) -> list[str]:
        """What the last script that ran to its end did to files, in order."""
        return (self.folder / "events").read_text().splitlines()

    def settings(self, *, at: int | str | None, signal: str, log: bool = True) -> dict[str, str]:
        cleared = {name: value for name, value in os.environ.items() if not name.startswith(("GAINWATT_", "FAULT_"))}
        found = cleared | {
            "PYTHONPATH": os.pathsep.join([str(self.hook), str(ROOT / "src")]), "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "FAULT_ROOT": str(self.results),
        }  # fmt: skip
        if at is not None:
            found |= {"FAULT_AT": str(at), "FAULT_SIGNAL": signal}
        elif log:
            found["FAULT_LOG"] = str(self.folder / "events")
        return found | self.environment

    def run(
        self,
        script: str,
        *,
        at: int | str | None = None,
        signal: str = "SIGKILL",
        wrap: tuple[str, ...] = (),
        **more: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script; with `at` it gets `signal` at its at-th change of a file below the results folder.

        `at` may also be the change itself, as `events` names it.
        """
        command = [*wrap, sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--study", "study.yaml"]
        # The log of events must not meet a limit that is meant for the script.
        environment = self.settings(at=at, signal=signal, log="preexec_fn" not in more)
        return subprocess.run(
            [*command, *COMMANDS[script]], cwd=self.folder, env=environment, capture_output=True, text=True,
            check=False, timeout=300, **more,
        )  # fmt: skip

    def files(self) -> set[str]:
        return {str(path.relative_to(self.results)) for path in self.results.rglob("*") if path.is_file()}


def new_place(folder: Path) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(json.dumps(STUDY))
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK)
    return Place(folder, hook)


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    """A working folder without results."""
    return new_place(tmp_path / "fresh")


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Working folders after each stage of an undisturbed run; made once, whichever worker comes first."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "undisturbed"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            _run_undisturbed(shared.with_suffix(".unfinished"))
            shared.with_suffix(".unfinished").rename(shared)
    return {stage: shared / stage for stage in ("nothing", *COMMANDS)}


def _run_undisturbed(root: Path) -> None:
    before = root / "nothing"
    new_place(before)
    for stage in COMMANDS:
        place = _copy(before, root / stage)
        done = place.run(stage)
        assert done.returncode == 0, done.stderr
        before = place.folder


def _copy(source: Path, target: Path) -> Place:
    shutil.copytree(source, target)
    return new_place(target)


@pytest.fixture
def before(snapshots: dict[str, Path], tmp_path: Path):
    """Call with a stage for a working folder in which everything before it is done."""

    def place(stage: str) -> Place:
        names = ["nothing", *COMMANDS]
        return _copy(snapshots[names[names.index(stage) - 1]], tmp_path / "place")

    return place


@pytest.fixture
def after(snapshots: dict[str, Path]):
    """Call with a stage for the undisturbed folder in which it is the last that is done. Do not change it."""
    return lambda stage: Place(snapshots[stage], snapshots[stage] / "hook")

"""A Slurm of this one machine, started once for all tests of this folder, and small studies that run on it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factories import ROOT
from gainwatt.record import Record, read_record

from .cluster import PATIENCE_S, Cluster, missing

PROFILE = ROOT / "profiles" / "slurm"
QUICK = ("--slurm-init-seconds-before-status-checks", "3", "--slurm-status-attempts", "1", "--latency-wait", "5")
"""Shorter waits than the profile's own, which would only make the tests longer."""
TINY: dict[str, Any] = {
    "data": {"source": "embedded", "prompt_template": "{question}"},
    "model": {"source": "embedded", "dtype": "fp32"},
    "embedded": {
        "problems": {"sft_items": 300, "drill_items": 50, "train_items": 40, "validation_items": 8, "test_items": 12},
        "model": {"layers": 1, "hidden_size": 128, "intermediate_size": 128, "heads": 2, "kv_heads": 1},
        "warm_start": {"steps": 5},
    },
    "train": {
        "seeds": [0], "max_steps": 4, "num_generations": 4, "per_device_train_batch_size": 8, "precision": "fp32",
        "gradient_accumulation_steps": 1, "max_prompt_tokens": 128, "max_completion_tokens": 12,
        "gradient_checkpointing": False, "save_steps": 2,
    },
    "quantize": {
        "reference": "fp32", "schemes": ["bnb-nf4"], "calibration_items": 4, "calibration_max_tokens": 64,
    },
    "evaluate": {"batch_size": 16, "max_new_tokens": 8, "max_prompt_tokens": 128, "max_reference_tokens": 128},
    "statistics": {"bootstrap_draws": 200},
    "validation": {"parse_rate_error": 0, "parse_rate_warning": 0, "hit_max_error": 1, "hit_max_warning": 1},
    "energy": {"idle_s": 0},
    "resources": {
        kind: {"gpus": gpus, "mem_mb": 3000, "runtime_min": 5}
        for kind, gpus in (("train", 1), ("quantize", 1), ("evaluate", 1), ("prepare", 0), ("diagnose", 0))
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    absent = missing()
    if absent or importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip(
            f"make test-slurm installs what is missing: {', '.join(absent) or 'the Slurm executor of Snakemake'}"
        )
    folder = Path(tempfile.mkdtemp(prefix="gainwatt-slurm-"))  # a short path: a socket's name holds 107 characters
    with Cluster(folder) as running:
        yield running
    assert running.left() == [], "processes of the cluster are left over"
    assert not folder.exists()


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which NVML finds two GPUs that draw 100 W and 200 W."""
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "energy" / "fake_nvml.c"
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"], check=True)
    script = folder / "script"
    script.write_text(
        "clock real\n"
        "device GPU-aaaaaaaa-0000-1111-2222-333333333333 fake\npoint 0 100\n"
        "device GPU-bbbbbbbb-0000-1111-2222-333333333333 fake\npoint 0 200\n",
        "utf-8",
    )
    return {"LD_LIBRARY_PATH": str(folder), "GAINWATT_FAKE_NVML": str(script)}


class Run:
    """Snakemake with the Slurm profile, running beside the test."""

    def __init__(self, folder: Path, environment: dict[str, str], options: tuple[str, ...], profile: Path) -> None:
        self.log = folder / f"run-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", str(profile)]
        command += ["--directory", str(folder), *QUICK, *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def submitted(self) -> dict[str, str]:
        """Slurm's id of each job so far -> its rule."""
        return dict(re.findall(r"SLURM jobid (\d+) \(log: \S*/rule_(\w+?)/", self.text))

    def first(self, rule: str, seconds: float = PATIENCE_S) -> str:
        """Wait until a job of a rule is submitted; its id."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for job, name in self.submitted().items():
                if name == rule:
                    return job
            assert self.process.poll() is None, self.text
            time.sleep(0.2)
        raise AssertionError(f"no job of {rule} after {seconds} s:\n{self.text}")

    def finish(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the end. Fails, after ending the run, where it takes longer."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"the run has not ended after {seconds} s:\n{self.text[-6000:]}") from None

    def end(self, number: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(timeout=30)


class Place:
    """One study in a folder of its own."""

    def __init__(self, folder: Path, cluster: Cluster, environment: dict[str, str], **changed: Any) -> None:
        self.folder, self.cluster, self.environment = folder, cluster, environment
        self.name = changed.pop("study", "tiny")
        self.profile = PROFILE
        self.runs: list[Run] = []
        content = json.loads(json.dumps(TINY)) | {"study": self.name}
        for section, values in changed.items():
            content[section] = _merged(content.get(section, {}), values)
        self.study = folder / f"{self.name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.study.write_text(json.dumps(content), "utf-8")

    @property
    def base(self) -> str:
        """The cheapest thing that a job of Slurm makes: the base model."""
        return f"results/{self.name}/records/warm_start/base.json"

    def start(self, *options: str, **environment: str) -> Run:
        options = (*options, "--config", f"study={self.study}")
        run = Run(self.folder, {**self.environment, **environment}, options, self.profile)
        self.runs.append(run)
        return run

    def run(self, *options: str, seconds: float = PATIENCE_S, **environment: str) -> tuple[int, str]:
        """Exit status and output of a run that must end by itself."""
        run = self.start(*options, **environment)
        return run.finish(seconds), run.text

    def record(self, stage: str, cell: str) -> Record:
        return read_record(self.folder / "results" / self.name / "records" / stage / f"{cell}.json", stage=stage)

    def process(self, script: str) -> int | None:
        """The process that runs a script for this study; None where there is none."""
        for pid in self.cluster.left():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                here = Path(f"/proc/{pid}/cwd").resolve() == self.folder
                if here and "python" in os.path.basename(words[0].decode()) and words[1].endswith(script.encode()):
                    return pid
        return None

    def copy_profile(self, replaced: dict[str, str]) -> None:
        """Use a copy of the profile, edited as a user would: text -> what stands there instead."""
        target = self.folder / "profile"
        shutil.copytree(PROFILE, target)
        text = (target / "config.yaml").read_text("utf-8")
        for old, new in replaced.items():
            assert old in text, old
            text = text.replace(old, new)
        (target / "config.yaml").write_text(text, "utf-8")
        self.profile = target


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which data and base model of the small study have been made, without Slurm."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "tiny.yaml").write_text(json.dumps(TINY | {"study": "tiny"}), "utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--directory", str(folder), "results/tiny/records/warm_start/base.json"]
    subprocess.run([*command, "--config", "study=tiny.yaml"], check=True, capture_output=True, timeout=PATIENCE_S)
    return folder


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old.get(key, {}), value) for key, value in new.items()}
    return new


def environment_of(cluster: Cluster, fake_driver: dict[str, str]) -> dict[str, str]:
    """The environment of a person who works on the cluster, with a driver that finds GPUs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GAINWATT_", "SLURM_"))}
    environment |= {"OMP_NUM_THREADS": "1", "GAINWATT_SLURM_POLL_S": "4", **fake_driver, **cluster.environment}
    environment.pop("HF_HUB_OFFLINE", None)
    return environment


@pytest.fixture
def place(
    cluster: Cluster, fake_driver: dict[str, str], base_folder: Path, tmp_path: Path
) -> Iterator[Callable[..., Place]]:
    """Call with changed sections of the study; what its runs leave is ended with the test.

    With `base=True` data and base model are there already.
    """
    environment = environment_of(cluster, fake_driver)
    made: list[Place] = []

    def make(**changed: Any) -> Place:
        folder = tmp_path / changed.get("study", "tiny")
        if changed.pop("base", False):
            shutil.copytree(base_folder, folder)
        made.append(Place(folder, cluster, environment, **changed))
        return made[-1]

    yield make
    cluster.ask("scontrol", "update", f"node={cluster.node}", "state=resume")
    for run in [run for one in made for run in one.runs]:
        with contextlib.suppress(ProcessLookupError):
            run.end()
    cluster.ask("scancel", f"--user={os.getuid()}")
    cluster.wait(lambda: not cluster.jobs("PENDING,RUNNING,COMPLETING"), "the jobs of the test end")

"""One process and several, sharded or not, learn the same from the same rollouts; a sharded run can be killed.

Two processes on a CPU, by gloo. The tolerance is that of fp32 sums in another order.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet
from safetensors.torch import load_file

from factories import ROOT
from gainwatt.modeling import load_model
from gainwatt.record import read_record
from gainwatt.schemes import get_scheme

pytestmark = pytest.mark.processes
TOLERANCE = 1e-4
"""Largest deviation of any step's loss, gradient norm or reward, relative to the largest of the curve."""
STEPS = 6
TRAIN = {
    "seeds": [0], "max_steps": STEPS, "save_steps": 2, "precision": "fp32", "gradient_checkpointing": False,
    "max_completion_tokens": 12, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
    "num_generations": 4, "learning_rate": 1e-3, "zero_variance_patience_steps": STEPS,
}  # fmt: skip
SCRIPT = ROOT / "benchmarks" / "same_curve.py"


def script():
    spec = importlib.util.spec_from_file_location("same_curve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Place:
    """A study in a folder of its own, with its data and base model at hand."""

    def __init__(self, folder: Path, base: Path, sharding: str) -> None:
        self.folder = folder
        shutil.copytree(base, folder)
        parallel = {"sharding": sharding}
        gpus = 2 if sharding == "fsdp" else 0
        self.study = folder / "study.yaml"
        content = json.loads(self.study.read_text())
        content |= {"parallel": parallel, "resources": {"train": {"gpus": gpus}}}
        content["paths"] = {"results": str(folder / "results")}
        self.study.write_text(json.dumps(content))

    @property
    def work(self) -> Path:
        return self.folder / "results/tiny/work/train_grpo/grpo-s0"

    def start(self, processes: int, **environment: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
            "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT / "src"), **environment,
        }  # fmt: skip
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT)]
        command += ["--study", str(self.study), "--variant", "grpo-s0"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def train(self, processes: int, **environment: str) -> None:
        assert self.start(processes, **environment).wait(timeout=600) == 0, (self.folder / "log").read_text()[-4000:]

    @property
    def record(self) -> Path:
        return self.folder / "results/tiny/records/train_grpo/grpo-s0.json"

    @property
    def curve(self) -> Path:
        return self.record.with_suffix(".steps.parquet")

    @property
    def weights(self):
        return load_file(self.folder / "results/tiny/checkpoints/grpo-s0/dense/model.safetensors")


def fsdp_variables() -> dict[str, str]:
    """What `accelerate launch` makes of the generated configuration."""
    from gainwatt.training.launch import fsdp_config

    return {"ACCELERATE_USE_FSDP": "true"} | {name.upper(): str(value) for name, value in fsdp_config().items()}


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("base") / "place"
    folder.mkdir()
    data = folder / "data"
    data.mkdir()
    for split, n in (("train", 12), ("test", 4)):
        lines = [json.dumps({"question": f"{split} {i}: what is {i} + 2?", "answer": "#### 7"}) for i in range(n)]
        (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    content = {
        "study": "tiny", "data": {"source": str(data), "prompt_template": "{question}"},
        "model": {"source": str(tiny_folder), "dtype": "fp32"}, "train": TRAIN,
        "quantize": {"reference": "fp32", "schemes": []}, "energy": {"idle_s": 0},
        "paths": {"results": str(folder / "results")},
    }  # fmt: skip
    (folder / "study.yaml").write_text(json.dumps(content))
    for name in ("prepare_data", "fetch_model"):
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--study", str(folder / "study.yaml")]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    return folder


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("alone") / "place", base, "none")
    place.train(1)
    return place


@pytest.fixture(scope="module")
def sharded(base, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("sharded") / "place", base, "fsdp")
    place.train(2, **fsdp_variables())
    return place


def close(one: Place, other: Place) -> bool:
    found = script().compare(one.curve, other.curve)
    # TRL logs the mean of the passes' mean entropies, whatever their numbers of tokens: other passes, another mean.
    return found.pop("entropy") < 100 * TOLERANCE and max(found.values()) < TOLERANCE


def test_the_curve_says_something(alone):
    rows = parquet.read_table(alone.curve).to_pydict()
    assert min(rows["grad_norm"]) > 0
    assert len(set(rows["entropy"])) == STEPS
    assert 0 < sum(rows["reward"]) < STEPS


def test_two_processes_learn_what_one_learns(base, alone, tmp_path):
    two = Place(tmp_path / "place", base, "none")
    two.train(2)
    assert close(alone, two)
    record = read_record(two.record, stage="train_grpo")
    assert record["settings"]["processes"] == 2
    assert record["metrics"]["prompts_per_step"] == 4


def test_shards_learn_what_the_whole_model_learns(alone, sharded):
    assert close(alone, sharded)
    one, other = alone.weights, sharded.weights
    assert one.keys() == other.keys()
    assert all((one[name] - other[name]).abs().max() < TOLERANCE for name in one)
    record = read_record(sharded.record, stage="train_grpo")
    assert record["settings"]["processes"] == 2
    assert record["settings"]["parallel"]["sharding"] == "fsdp"
    assert not sharded.work.exists()


def test_a_sharded_checkpoint_is_one_like_any_other(alone, sharded):
    folder = sharded.folder / "results/tiny/checkpoints/grpo-s0/dense"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
    names = [path.name for path in (alone.folder / "results/tiny/checkpoints/grpo-s0/dense").iterdir()]
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    from gainwatt.checkpoint import read_manifest

    load_model(read_manifest(folder / "manifest.json"), get_scheme("fp32"), "fp32")


def test_a_killed_sharded_run_goes_on(base, sharded, tmp_path):
    place = Place(tmp_path / "place", base, "fsdp")
    running = place.start(2, **fsdp_variables())
    try:
        deadline = time.monotonic() + 300
        while not any(place.work.glob("checkpoint-*/complete")):
            assert running.poll() is None, (place.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not place.record.exists()
    place.train(2, **fsdp_variables())
    assert read_record(place.record, stage="train_grpo")["metrics"]["resumed_from_step"] >= 2
    assert close(sharded, place)
    one, other = place.weights, sharded.weights
    assert all((one[name] - other[name]).abs().max() < TOLERANCE for name in one)


def test_processes_of_a_sharded_model_generate_until_the_last_has_finished(base, tmp_path):
    """Real rollouts end at different lengths: a process that stopped early would leave the other waiting."""
    place = Place(tmp_path / "place", base, "fsdp")
    place.train(2, **fsdp_variables(), SAME_CURVE_ROLLOUTS="real")
    rows = parquet.read_table(place.curve).to_pydict()
    assert max(rows["completion_tokens_max"]) > min(rows["completion_tokens_min"])

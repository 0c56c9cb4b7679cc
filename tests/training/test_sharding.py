"""One process and several, sharded or not, learn the same from the same rollouts; a sharded run can be killed.

Two processes on a CPU, by gloo. The tolerance is that of fp32 sums in another order.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import parquet
from safetensors.torch import load_file

from factories import ROOT
from gainwatt.modeling import load_model
from gainwatt.record import read_record
from gainwatt.schemes import get_scheme
from gainwatt.training.sharding import sum_gradients_in_fp32

pytestmark = pytest.mark.processes
TOLERANCE = 1e-4
"""Largest deviation of any step's loss, gradient norm or reward, relative to the largest of the curve."""
STEPS = 4
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

    def __init__(self, folder: Path, base: Path, processes: int, sharding: str = "none") -> None:
        self.folder = folder
        shutil.copytree(base, folder)
        self.study = folder / "study.yaml"
        content = json.loads(self.study.read_text())
        content |= {"parallel": {"sharding": sharding}, "resources": {"train": {"gpus": processes}}}
        content["paths"] = {"results": str(folder / "results")}
        self.study.write_text(json.dumps(content))

    @property
    def work(self) -> Path:
        return self.folder / "results/tiny/work/train_grpo/grpo-s0"

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """The script as a person starts it; for two processes it starts accelerate with the study's configuration."""
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GAINWATT_GPUS": "0,1",
            "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT / "src"), **environment,
        }  # fmt: skip
        command = [sys.executable, str(SCRIPT), "--study", str(self.study), "--variant", "grpo-s0"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def train(self, **environment: str) -> None:
        assert self.start(**environment).wait(timeout=600) == 0, (self.folder / "log").read_text()[-4000:]

    @property
    def record(self) -> Path:
        return self.folder / "results/tiny/records/train_grpo/grpo-s0.json"

    @property
    def curve(self) -> Path:
        return self.record.with_suffix(".steps.parquet")

    @property
    def weights(self):
        return load_file(self.folder / "results/tiny/checkpoints/grpo-s0/dense/model.safetensors")


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
    place = Place(tmp_path_factory.mktemp("alone") / "place", base, 1)
    place.train()
    return place


@pytest.fixture(scope="module")
def sharded(base, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("sharded") / "place", base, 2, "fsdp")
    place.train()
    return place


def commandline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


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
    two = Place(tmp_path / "place", base, 2)
    two.train()
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


def test_gradients_of_shards_are_summed_in_fp32():
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)
    plugin = SimpleNamespace(mixed_precision_policy=policy)
    state = SimpleNamespace(fsdp_plugin=plugin)
    sum_gradients_in_fp32(SimpleNamespace(is_fsdp_enabled=True, accelerator=SimpleNamespace(state=state)))
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)


def test_a_killed_sharded_run_goes_on(base, sharded, tmp_path):
    place = Place(tmp_path / "place", base, 2, "fsdp")
    running = place.start()
    try:
        deadline = time.monotonic() + 300
        while not any(place.work.glob("checkpoint-*/complete")):
            assert running.poll() is None, (place.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        running.kill()  # the script alone: whatever it has started must not go on
        running.wait()
    deadline = time.monotonic() + 60
    while f"--study\0{place.study}".encode() in b"".join(map(commandline, Path("/proc").glob("[0-9]*"))):
        assert time.monotonic() < deadline, "a process of the training outlives the script"
        time.sleep(0.05)
    assert not place.record.exists()
    place.train()
    assert read_record(place.record, stage="train_grpo")["metrics"]["resumed_from_step"] >= 2
    assert close(sharded, place)
    one, other = place.weights, sharded.weights
    assert all((one[name] - other[name]).abs().max() < TOLERANCE for name in one)


def test_processes_of_a_sharded_model_generate_until_the_last_has_finished(base, tmp_path):
    """Real rollouts end at different lengths: a process that stopped early would leave the other waiting."""
    place = Place(tmp_path / "place", base, 2, "fsdp")
    place.train(SAME_CURVE_ROLLOUTS="real")
    rows = parquet.read_table(place.curve).to_pydict()
    assert max(rows["completion_tokens_max"]) > min(rows["completion_tokens_min"])

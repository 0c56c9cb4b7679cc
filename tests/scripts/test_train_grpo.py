"""Training by its command line on a tiny model: resume after kill -9, the guard, LoRA, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet
from safetensors.torch import load_file

from gainwatt.record import read_record

ROOT = Path(__file__).parents[2]
TRAIN = {
    "seeds": [0], "max_steps": 6, "save_steps": 2, "precision": "fp32", "gradient_checkpointing": False,
    "max_completion_tokens": 16, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3, "zero_variance_patience_steps": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small random model and data whose gold answer a random model hits now and then."""
    from gainwatt.embedded import model, problems, tokenizer

    folder = tmp_path_factory.mktemp("base")
    rows = problems.generate(split="sft", n=200, seed=0)
    made = tokenizer.train_tokenizer([text for row in rows for text in (row["question"], row["answer"])], 400)
    tiny = model.build_model(made, hidden_size=128, intermediate_size=128, layers=1, heads=2, kv_heads=1, seed=0)
    tiny.save_pretrained(folder / "model")
    made.save_pretrained(folder / "model")
    (folder / "data").mkdir()
    for split, n in (("train", 12), ("test", 4)):
        lines = [json.dumps({"question": f"{split} question {i}?", "answer": "#### 7"}) for i in range(n)]
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def study_file(tmp_path: Path, base: Path, **changed: object) -> Path:
    study = {
        "study": "tiny",
        "data": {"source": str(base / "data"), "prompt_template": "{question}"},
        "model": {"source": str(base / "model"), "dtype": "fp32"},
        "train": {**TRAIN, **changed},
        "quantize": {"reference": "fp32", "schemes": []},
        "energy": {"idle_s": 0},
        "paths": {"results": str(tmp_path / "results")},
    }
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study))
    return path


def command(script: str, study: Path, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--study", str(study), *options]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(list(args), capture_output=True, text=True, env=environment, timeout=300, check=False)


def prepare(tmp_path: Path, base: Path, **changed: object) -> Path:
    study = study_file(tmp_path, base, **changed)
    for script in ("prepare_data", "fetch_model"):
        done = run(*command(script, study))
        assert done.returncode == 0, done.stderr
    return study


def result(tmp_path: Path) -> tuple[dict, dict, dict]:
    folder = tmp_path / "results" / "tiny"
    record = read_record(folder / "records" / "train_grpo" / "grpo-s0.json", stage="train_grpo")
    steps = parquet.read_table(folder / "records" / "train_grpo" / "grpo-s0.steps.parquet").to_pydict()
    weights = load_file(folder / "checkpoints" / "grpo-s0" / "dense" / "model.safetensors")
    return record, steps, weights


@pytest.fixture(scope="module")
def uninterrupted(base, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("uninterrupted")
    done = run(*command("train_grpo", prepare(tmp_path, base), "--variant", "grpo-s0"))
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_a_run_trains_and_says_what_it_saw(uninterrupted):
    record, steps, _ = result(uninterrupted)
    metrics = record["metrics"]
    assert record["status"] == "ok"
    assert metrics["steps"] == 6
    assert metrics["weights_changed_frac"] > 0.5
    # 16 x 2 completions in groups of 8 are four prompts a step; 12 prompts are an epoch.
    assert metrics["prompts_per_step"] == 4
    assert metrics["prompts_seen"] == 24
    assert metrics["unique_prompts"] == 12
    assert metrics["epochs"] == pytest.approx(2.0)
    assert metrics["completions"] == 192
    assert steps["step"] == [1, 2, 3, 4, 5, 6]
    assert steps["cold"] == [True, *[False] * 5]
    assert metrics["step_s_warm_mean"] == pytest.approx(sum(steps["step_s"][1:]) / 5)
    assert metrics["rollouts_per_min_warm"] == pytest.approx(60 * 160 / sum(steps["rollout_s"][1:]))
    assert all(len(indices) == 4 for indices in steps["prompt_indices"])
    assert sorted(i for indices in steps["prompt_indices"][:3] for i in indices) == list(range(12))
    assert record["settings"]["effective"]["loss_type"] == "dr_grpo"
    assert record["settings"]["effective"]["steps_per_generation"] == 2
    assert not (uninterrupted / "results" / "tiny" / "work" / "train_grpo" / "grpo-s0").exists()


def test_kill_and_the_same_command_end_with_the_same_weights(base, tmp_path, uninterrupted):
    study = prepare(tmp_path, base)
    arguments = command("train_grpo", study, "--variant", "grpo-s0")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = tmp_path / "results" / "tiny" / "work" / "train_grpo" / "grpo-s0" / "steps.jsonl"
    running = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while not (log.exists() and len(log.read_text().splitlines()) >= 3):
            assert running.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline, "training logged no step"
            time.sleep(0.01)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (tmp_path / "results" / "tiny" / "records" / "train_grpo" / "grpo-s0.json").exists()

    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    record, steps, weights = result(tmp_path)
    _, steps_whole, weights_whole = result(uninterrupted)
    assert record["metrics"]["resumed_from_step"] in (2, 4)
    assert record["metrics"]["steps_this_run"] == 6 - record["metrics"]["resumed_from_step"]
    assert steps["step"] == steps_whole["step"]
    assert steps["prompt_indices"] == steps_whole["prompt_indices"]
    assert steps["reward"] == steps_whole["reward"]
    again = record["metrics"]["resumed_from_step"]
    assert [step for step, cold in zip(steps["step"], steps["cold"], strict=True) if cold] == [1, again + 1]
    assert weights.keys() == weights_whole.keys()
    assert all(weights[name].equal(weights_whole[name]) for name in weights)


def test_a_reward_that_never_varies_stops_the_run(base, tmp_path):
    study = prepare(tmp_path, base, max_completion_tokens=1, zero_variance_patience_steps=2)
    data = tmp_path / "results" / "tiny" / "data" / "train.jsonl"
    data.write_text("".join(json.dumps({"question": f"q{i}", "answer": "#### 123456"}) + "\n" for i in range(12)))
    done = run(*command("train_grpo", study, "--variant", "grpo-s0"))
    assert done.returncode == 2
    assert "nothing can be learned" in done.stderr
    assert "what to do:" in done.stderr
    assert not (tmp_path / "results" / "tiny" / "records" / "train_grpo" / "grpo-s0.json").exists()


def test_lora_is_merged_before_anything_is_saved(base, tmp_path):
    study = prepare(tmp_path, base, lora={"r": 4, "alpha": 8})
    done = run(*command("train_grpo", study, "--variant", "grpo-s0"))
    assert done.returncode == 0, done.stderr
    record, _, weights = result(tmp_path)
    assert not [name for name in weights if "lora" in name]
    assert 0 < record["metrics"]["weights_changed_frac"] < 0.5  # the adapted projections only


def test_a_prompt_that_is_too_long_is_named_before_the_first_step(base, tmp_path):
    study = prepare(tmp_path, base, max_prompt_tokens=5)
    done = run(*command("train_grpo", study, "--variant", "grpo-s0"))
    assert done.returncode == 2
    assert "training item 0" in done.stderr
    assert "max_prompt_tokens" in done.stderr


def test_an_unknown_variant_is_refused(base, tmp_path):
    done = run(*command("train_grpo", study_file(tmp_path, base), "--variant", "grpo-s7"))
    assert done.returncode == 2
    assert "grpo-s0" in done.stderr


def test_two_processes_share_the_prompts(base, tmp_path, monkeypatch):
    study = prepare(tmp_path, base, max_steps=2)
    arguments = command("train_grpo", study, "--variant", "grpo-s0")[1:]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    done = run(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    record, steps, _ = result(tmp_path)
    assert record["settings"]["processes"] == 2
    assert record["metrics"]["prompts_per_step"] == 4
    assert all(len(indices) == 4 for indices in steps["prompt_indices"])

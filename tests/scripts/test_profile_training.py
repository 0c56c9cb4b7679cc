"""The profile of GRPO steps by its command line on a tiny model: numbers, out of memory, resume after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from factories import ROOT, run_script, script_main, study_content, write_items
from gainwatt.checkpoint import read_manifest
from gainwatt.record import read_record

PROFILE = {
    "bases": ["fp32", "bnb-nf4"], "steps": 4, "warmup_steps": 1, "save_steps": 2, "long_tail_threshold_tokens": 5,
}  # fmt: skip
TRAIN = {
    "seeds": [0], "precision": "fp32", "gradient_checkpointing": True, "max_completion_tokens": 8, "num_generations": 2,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture
def place(tmp_path, tiny_folder):
    """A study whose data and base model are there."""
    data = {"source": str(write_items(tmp_path / "items", train=6)), "prompt_template": "{question}"}
    content = study_content(
        tmp_path, data=data, train=TRAIN, train_profile=PROFILE,
        model={"source": str(tiny_folder), "dtype": "fp32"}, quantize={"reference": "fp32", "schemes": []},
    )  # fmt: skip
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    return tmp_path


def options(place, tiny_folder, scheme="fp32"):
    return [
        "--study", str(place / "study.yaml"), "--scheme", scheme, "--base", str(tiny_folder / "manifest.json"),
        "--data", str(place / "items" / "train.jsonl"),
    ]  # fmt: skip


def result(place, scheme="fp32"):
    path = place / "results" / "tiny" / "records" / "profile_training" / f"base.{scheme}.json"
    return read_record(path, stage="profile_training"), parquet.read_table(path.with_suffix(".steps.parquet"))


def test_a_qlora_step_is_profiled(place, tiny_folder):
    assert script_main("profile_training")(options(place, tiny_folder, "bnb-nf4")) == 0
    record, table = result(place, "bnb-nf4")
    rows, metrics = table.to_pylist(), record["metrics"]
    assert record["status"] == "ok"
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["warmup"] for row in rows] == [True, False, False, False, False]
    assert (metrics["steps_ok"], metrics["steps_measured"], metrics["oom_count"]) == (4, 4, 0)
    assert metrics["completions"] == 16
    measured = rows[1:]
    lengths = [length for row in measured for length in row["completion_tokens"]]
    assert metrics["generated_tokens"] == sum(lengths)
    assert metrics["long_tail_rate"] == sum(length > 5 for length in lengths) / 16
    assert metrics["rollouts_per_min"] == pytest.approx(60 * 16 / sum(row["rollout_s"] for row in measured))
    for row in rows:
        parts = sum(row[f"{part}_s"] for part in ("rollout", "score", "update", "optimizer"))
        assert 0 < parts <= row["step_s"] + 1e-3
        assert row["null_reason"] or row["gross_j_step"] is not None
    # The frozen base is stored in 4 bits, and only adapters train.
    assert metrics["parameter_bytes"] < read_manifest(tiny_folder / "manifest.json").weight_bytes
    assert 0 < metrics["trainable_parameters"] < 50_000
    assert record["settings"]["effective"]["loss_type"] == "dr_grpo"
    assert not (place / "results" / "tiny" / "work").exists() or not list(
        (place / "results" / "tiny" / "work" / "profile_training").iterdir()
    )


@pytest.fixture
def memory_runs_out(monkeypatch):
    """Call with where and in which calls memory runs out."""
    import torch
    from trl import GRPOTrainer

    def at(method, calls):
        whole, count = getattr(GRPOTrainer, method), iter(range(1, 10**6))

        def short(self, *args, **kwargs):
            if next(count) in calls:
                raise torch.OutOfMemoryError(f"CUDA out of memory in {method}")
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(GRPOTrainer, method, short)

    return at


def test_steps_that_run_out_of_memory_are_counted_and_the_run_goes_on(place, tiny_folder, memory_runs_out):
    memory_runs_out("_generate_single_turn", {2})
    memory_runs_out("_compute_loss", {4})  # step 1: calls 1 and 2; step 2 gets none; step 3: call 3 and then 4
    assert script_main("profile_training")(options(place, tiny_folder)) == 0
    record, table = result(place)
    rows, metrics = table.to_pylist(), record["metrics"]
    assert record["status"] == "ok"
    assert [row["status"] for row in rows] == ["ok", "oom", "oom", "ok", "ok"]
    assert [row["oom_part"] for row in rows] == [None, "rollout", "update", None, None]
    assert "out of memory in _generate_single_turn" in rows[1]["reason"]
    assert rows[1]["completions"] == 0
    assert rows[1]["update_s"] is None
    assert rows[1]["loss"] is None
    assert rows[2]["completions"] == 4
    assert (metrics["oom_count"], metrics["steps_ok"], metrics["completions"]) == (2, 2, 8)
    assert metrics["oom_by_part"]["rollout"] == 1
    assert metrics["oom_first"].startswith("step 2, rollout: CUDA out of memory")


def test_gradient_checkpointing_is_on_again_after_a_rollout_that_failed(place, tiny_folder, monkeypatch):
    import torch
    from transformers import GenerationMixin
    from trl import GRPOTrainer

    seen, loss = [], GRPOTrainer._compute_loss
    whole, count = GenerationMixin.generate, iter(range(1, 100))

    def generate(self, *args, **kwargs):
        if next(count) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, *args, **kwargs)

    def compute(self, model, inputs):
        seen.append(self.accelerator.unwrap_model(model).is_gradient_checkpointing)
        return loss(self, model, inputs)

    monkeypatch.setattr(GenerationMixin, "generate", generate)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", compute)
    assert script_main("profile_training")(options(place, tiny_folder)) == 0
    assert result(place)[0]["metrics"]["oom_count"] == 1
    assert len(seen) == 8
    assert all(seen)


def test_memory_that_is_short_for_the_optimizer_changes_no_weight(place, tiny_folder, monkeypatch):
    import torch

    step, count = torch.optim.AdamW.step, iter(range(1, 100))

    def short(self, *args, **kwargs):
        if next(count) <= 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", short)
    assert script_main("profile_training")(options(place, tiny_folder)) == 0
    rows = result(place)[1].to_pylist()
    assert [row["oom_part"] for row in rows] == ["optimizer", "optimizer", None, None, None]


def test_a_machine_on_which_no_step_fits_is_a_result(place, tiny_folder, memory_runs_out):
    memory_runs_out("_generate_single_turn", set(range(1, 9)))
    assert script_main("profile_training")(options(place, tiny_folder)) == 0
    record, _ = result(place)
    assert record["status"] == "oom"
    assert "no measured step went well; step 1, rollout" in record["reason"]
    assert record["metrics"]["rollout_s_mean"] is None
    assert record["metrics"]["oom_count"] == 4


def test_other_errors_are_not_taken_for_a_lack_of_memory(place, tiny_folder, monkeypatch):
    from trl import GRPOTrainer

    def broken(self, *args, **kwargs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        script_main("profile_training")(options(place, tiny_folder))
    assert not (place / "results" / "tiny" / "records" / "profile_training" / "base.fp32.json").exists()


@pytest.fixture
def board(tmp_path):
    """Environment of a process whose NVML is a scripted one: a board that draws 40 W all the time."""
    library = tmp_path / "nvml" / "libnvidia-ml.so.1"
    library.parent.mkdir()
    source = ROOT / "tests" / "energy" / "fake_nvml.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True, capture_output=True)
    lines = ["clock real", "device GPU-aaaaaaaa-0000-1111-2222-333333333333 Fake RTX", "cost counter 0.0025"]
    (tmp_path / "nvml" / "script").write_text("\n".join([*lines, "point 0 40", ""]))
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONPATH": str(ROOT / "src"), "LD_LIBRARY_PATH": str(library.parent),
        "GAINWATT_FAKE_NVML": str(tmp_path / "nvml" / "script"),
    }  # fmt: skip


@pytest.mark.faults
def test_kill_and_the_same_command_go_on_with_the_joules_so_far(place, tiny_folder, board):
    arguments = [sys.executable, str(ROOT / "scripts" / "profile_training.py"), *options(place, tiny_folder)]
    work = place / "results" / "tiny" / "work" / "profile_training" / "base.fp32"
    running = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=board, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while not (work / "checkpoint-2" / "complete").exists():
            assert running.poll() is None, "the profile ended before it could be killed"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.005)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert json.loads((work / "joules.json").read_text()).keys() >= {"1", "2"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=board, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    record, table = result(place)
    rows = table.to_pylist()
    again = record["metrics"]["resumed_from_step"]
    assert again in (2, 4)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    # The first step of the process that goes on is as cold as the first of all.
    assert [row["step"] for row in rows if row["warmup"]] == [1, again + 1]
    assert record["metrics"]["completions"] == 12
    assert record["metrics"]["mean_step_w"] == pytest.approx(40, rel=0.02)
    assert all(row["gross_j_step"] == pytest.approx(40 * row["step_s"], rel=0.05) for row in rows)
    # The joules of the steps were kept with them; the job's journal names the killed process where it lived for 30 s.
    assert record["energy"].get("earlier_segments", {"count": 1})["count"] == 1
    assert not work.exists()


def test_what_the_study_does_not_name_is_refused(place, tiny_folder):
    done = run_script("profile_training", *options(place, tiny_folder, "bf16"))
    assert done.returncode == 2
    assert "does not name 'bf16'" in done.stderr
    assert "it names: fp32, bnb-nf4" in done.stderr
    done = run_script("profile_training", *options(place, tiny_folder), "--set", "train_profile=null")
    assert done.returncode == 2
    assert "has no section train_profile" in done.stderr


def test_fewer_prompts_than_a_step_takes_are_refused(place, tiny_folder):
    done = run_script("profile_training", *options(place, tiny_folder), "--set", "train_profile.prompts=1")
    assert done.returncode == 2
    assert "one step takes 2 prompts (2 x 2 completions in groups of 2), and there are 1" in done.stderr
    assert "raise train_profile.prompts" in done.stderr

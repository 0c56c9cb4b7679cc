from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gainwatt.embedded import warm_start
from gainwatt.errors import InputError

SETTINGS = warm_start.Settings(steps=9, batch_size=4, warmup_steps=2, checkpoint_steps=2, seed=3)

# A real kill -9 in the middle of the run, then the same call again.
RUN_AND_DIE = """
import os, signal, sys, pickle, torch
from gainwatt.embedded import model, problems, tokenizer, warm_start
torch.set_num_threads(1)
rows = problems.generate(split="sft", n=200, seed=0, max_repeats=None)
made = tokenizer.train_tokenizer(warm_start.texts(rows), 640)
small = model.build_model(made, intermediate_size=128, layers=1, heads=2, kv_heads=1, seed=0)
settings = warm_start.Settings(steps=9, batch_size=4, warmup_steps=2, checkpoint_steps=2, seed=3)
def die(metrics):
    if metrics["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
warm_start.run(small, made, rows, settings, sys.argv[1], die)
"""


def run(make_model, tokenizer, rows, folder, settings=SETTINGS):
    made, seen = make_model(), []
    warm_start.run(made, tokenizer, rows, settings, folder, seen.append)
    return made, seen


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(make_model, small_tokenizer, rows, tmp_path):
    whole, steps = run(make_model, small_tokenizer, rows, tmp_path / "whole")
    paths = os.pathsep.join([str(Path(warm_start.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", RUN_AND_DIE, str(tmp_path / "cut")], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed, rest = run(make_model, small_tokenizer, rows, tmp_path / "cut")
    assert [m["step"] for m in rest] == [5, 6, 7, 8, 9]
    assert [m["loss"] for m in rest] == [m["loss"] for m in steps[4:]]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_finished_run_is_not_repeated(make_model, small_tokenizer, rows, tmp_path):
    first, _ = run(make_model, small_tokenizer, rows, tmp_path)
    second, steps = run(make_model, small_tokenizer, rows, tmp_path)
    assert steps == []
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)


def test_the_loss_falls_and_each_step_is_reported(make_model, small_tokenizer, rows, tmp_path):
    settings = warm_start.Settings(steps=25, batch_size=8, warmup_steps=2, learning_rate=5e-3)
    _, steps = run(make_model, small_tokenizer, rows, tmp_path, settings)
    assert [m["step"] for m in steps] == list(range(1, 26))
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]
    assert set(steps[0]) == {"step", "loss", "learning_rate", "grad_norm", "tokens", "seconds"}


def test_one_epoch_shows_every_example_once(small_tokenizer, rows):
    examples = warm_start.encode_rows(small_tokenizer, rows, SETTINGS)
    epoch = [i for step in range(50) for i in warm_start.batch_of(examples, SETTINGS, step)]
    assert sorted(epoch) == list(range(200))
    assert epoch != [i for step in range(50, 100) for i in warm_start.batch_of(examples, SETTINGS, step)]


def test_padding_and_prompt_do_not_enter_the_loss(make_model, small_tokenizer, rows):
    """The batch loss equals the token mean of losses computed one example at a time, without padding."""
    made = make_model()
    examples = warm_start.encode_rows(small_tokenizer, rows, SETTINGS)[:5]
    losses = []
    with torch.no_grad():
        for prompt, answer in examples:
            logits = made(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    expected = float(torch.cat(losses).mean())
    loss = warm_start.batch_loss(made, examples, small_tokenizer.pad_token_id)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_warms_up_and_decays():
    settings = warm_start.Settings(steps=100, warmup_steps=10, learning_rate=1.0, final_lr_share=0.1)
    assert settings.rate(0) == pytest.approx(0.1)
    assert settings.rate(10) == pytest.approx(1.0)
    assert settings.rate(55) == pytest.approx(0.55)
    assert settings.rate(100) == pytest.approx(0.1)


def test_what_is_saved_loads_and_generates(make_model, small_tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    warm_start.save(make_model(), small_tokenizer, tmp_path / "base")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    prompts = tokenizer(["3*4", "7+12, 3*4"], return_tensors="pt", padding=True, return_token_type_ids=False)
    assert loaded.generate(**prompts, max_new_tokens=3, do_sample=False).shape[0] == 2


def test_annotations_are_stripped():
    assert warm_start.strip_annotations("3*4=<<3*4=12>>12\n#### 12") == "3*4=12\n#### 12"


def test_a_checkpoint_of_other_settings_is_refused_by_name(make_model, small_tokenizer, rows, tmp_path):
    run(make_model, small_tokenizer, rows, tmp_path)
    other = warm_start.Settings(steps=9, batch_size=4, warmup_steps=2, checkpoint_steps=2, seed=4)
    with pytest.raises(InputError, match=r"checkpoint\.pt was made with other data, settings or model sizes"):
        run(make_model, small_tokenizer, rows, tmp_path, other)


def test_a_truncated_checkpoint_is_refused_by_name(make_model, small_tokenizer, rows, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read"):
        run(make_model, small_tokenizer, rows, tmp_path)


def test_too_few_rows_are_refused(make_model, small_tokenizer, rows, tmp_path):
    with pytest.raises(InputError, match="3 warm-start rows"):
        run(make_model, small_tokenizer, rows[:3], tmp_path)


def test_products_in_bf16_and_weights_in_fp32(make_model, small_tokenizer, rows, tmp_path):
    settings = replace(SETTINGS, steps=4)
    whole, exact = run(make_model, small_tokenizer, rows, tmp_path / "fp32", settings)
    half, rounded = run(make_model, small_tokenizer, rows, tmp_path / "bf16", replace(settings, bf16=True))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert rounded[0]["loss"] != exact[0]["loss"]
    assert [m["loss"] for m in rounded] == pytest.approx([m["loss"] for m in exact], rel=0.02)
    assert not torch.equal(half.lm_head.weight, whole.lm_head.weight)
    with pytest.raises(InputError, match="made with other data, settings"):
        run(make_model, small_tokenizer, rows, tmp_path / "bf16", settings)

"""Every training setting of a study reaches TRL."""

from __future__ import annotations

from pathlib import Path

import pytest

from gainwatt.errors import InputError
from gainwatt.study.parallel import Parallel
from gainwatt.study.sections import Lora, Train
from gainwatt.training.settings import grpo_arguments, lora_config, prompts_per_step

# What does not go to GRPOConfig: one run per seed, data, guards, and engines and adapters, which have tests below.
ELSEWHERE = {
    "seeds", "prompts", "max_prompt_tokens", "zero_variance_patience_steps", "lora", "rollout_engine",
    "vllm_gpu_memory_utilization", "vllm_max_model_tokens",
}  # fmt: skip
OTHER = {
    "num_generations": 4, "lr_scheduler_type": "cosine", "loss_type": "grpo", "scale_rewards": "group",
    "precision": "fp16", "adam_beta1": 0.5, "adam_beta2": 0.5, "top_p": 0.5, "gradient_accumulation_steps": 16,
    "per_device_train_batch_size": 2, "epsilon_high": 0.3, "min_p": 0.1,
}  # fmt: skip


def arguments(train: Train, **options):
    return grpo_arguments(train, **{"seed": 3, "output_dir": Path("work"), "cuda": False, **options})


@pytest.mark.parametrize("name", sorted(set(Train.model_fields) - ELSEWHERE))
def test_a_change_of_a_setting_changes_the_arguments(name):
    default = getattr(Train(), name)
    other = OTHER[name] if name in OTHER else not default if isinstance(default, bool) else default + 1
    assert arguments(Train(**{name: other})) != arguments(Train())


def test_every_argument_is_one_of_trls():
    trl = pytest.importorskip("trl")
    known = trl.GRPOConfig.__dataclass_fields__
    vllm = arguments(Train(rollout_engine="vllm"))
    assert set(arguments(Train())) <= set(known)
    assert set(vllm) <= set(known)


def test_values_that_the_project_fixes():
    found = arguments(Train())
    assert (found["seed"], found["data_seed"]) == (3, 3)
    assert found["steps_per_generation"] == found["gradient_accumulation_steps"]
    assert found["logging_steps"] == 1
    assert found["report_to"] == "none"
    assert (found["use_cpu"], found["bf16"], found["fp16"]) == (True, True, False)
    assert "use_vllm" not in found
    assert arguments(Train(), cuda=True)["use_cpu"] is False


def test_vllm_knows_its_context():
    vllm = arguments(Train(rollout_engine="vllm", max_prompt_tokens=100, max_completion_tokens=20))
    assert vllm["vllm_max_model_length"] == 120
    assert vllm["vllm_mode"] == "colocate"
    assert arguments(Train(rollout_engine="vllm", vllm_max_model_tokens=99))["vllm_max_model_length"] == 99


def test_prompts_per_step_counts_prompts_not_completions():
    assert prompts_per_step(Train()) == 1
    train = Train(per_device_train_batch_size=16, gradient_accumulation_steps=2, num_generations=8)
    assert prompts_per_step(train) == 4


def test_processes_share_the_passes_of_a_step():
    train = Train(gradient_accumulation_steps=8)
    two = arguments(train, processes=2)
    assert (two["gradient_accumulation_steps"], two["steps_per_generation"]) == (4, 4)
    with pytest.raises(InputError, match="cannot be shared among 3"):
        arguments(train, processes=3)


def test_rollouts_of_a_server_come_from_where_the_launcher_says(monkeypatch):
    train, server = Train(rollout_engine="vllm"), Parallel(rollouts="server")
    monkeypatch.delenv("GAINWATT_ROLLOUT_SERVER", raising=False)
    with pytest.raises(InputError, match="has not been started"):
        arguments(train, parallel=server)
    monkeypatch.setenv("GAINWATT_ROLLOUT_SERVER", "http://127.0.0.1:7")
    monkeypatch.setenv("GAINWATT_ROLLOUT_GROUP_PORT", "8")
    made = arguments(train, parallel=server)
    assert (made["vllm_mode"], made["vllm_server_base_url"], made["vllm_group_port"]) == (
        "server", "http://127.0.0.1:7", 8,
    )  # fmt: skip
    trl = pytest.importorskip("trl")
    assert set(made) <= set(trl.GRPOConfig.__dataclass_fields__)
    colocate = arguments(train, parallel=Parallel(colocate_tensor_parallel_size=2))
    assert (colocate["vllm_mode"], colocate["vllm_tensor_parallel_size"]) == ("colocate", 2)


def test_lora():
    assert lora_config(Train()) is None
    found = lora_config(Train(lora=Lora(r=4, alpha=8, dropout=0.1, target_modules=("q_proj",))))
    assert (found.r, found.lora_alpha, found.lora_dropout, found.target_modules) == (4, 8, 0.1, {"q_proj"})

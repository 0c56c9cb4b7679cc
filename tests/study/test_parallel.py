"""A study whose GPUs cannot be used as it says is refused before any job starts."""

from __future__ import annotations

import pytest

from factories import write_study
from gainwatt.errors import InputError
from gainwatt.study import load_study
from gainwatt.study.parallel import passes_per_process, training_processes

SERVER = {"rollouts": "server"}
VLLM = {"rollout_engine": "vllm"}


def study(tmp_path, gpus=2, parallel=None, **sections):
    train = {"seeds": [0], **sections.pop("train", {})}
    content = {"resources": {"train": {"gpus": gpus}}, "parallel": parallel or {}, "train": train, **sections}
    return load_study(write_study(tmp_path, content))


@pytest.mark.parametrize(
    ("gpus", "parallel", "train", "processes"),
    [
        (0, {}, {}, 1),
        (1, {}, {}, 1),
        (4, {"sharding": "fsdp"}, {}, 4),
        (2, SERVER, VLLM, 1),
        (6, SERVER | {"server_gpus": 2, "sharding": "fsdp"}, VLLM, 4),
        (4, {"colocate_tensor_parallel_size": 2}, VLLM, 4),
    ],
)
def test_every_gpu_trains_but_those_of_the_server(tmp_path, gpus, parallel, train, processes):
    assert training_processes(study(tmp_path, gpus, parallel, train=train)) == processes


@pytest.mark.parametrize(
    ("gpus", "parallel", "train", "text"),
    [
        (2, SERVER, {}, "needs train.rollout_engine: vllm"),
        (2, SERVER | {"server_gpus": 2}, VLLM, "leaves nothing of resources.train.gpus = 2"),
        (2, SERVER, VLLM | {"lora": {"quantized_base": True}}, "4-bit base"),
        (1, {"sharding": "fsdp"}, {}, "at least two training GPUs"),
        (2, SERVER | {"sharding": "fsdp"}, VLLM, "at least two training GPUs"),
        (2, {"sharding": "fsdp"}, {"lora": {}}, "exclude each other"),
        (4, {"colocate_tensor_parallel_size": 3}, {}, "does not divide the 4 training processes"),
        (3, {}, {}, "cannot be shared among 3 training processes"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, gpus, parallel, train, text):
    with pytest.raises(InputError) as raised:
        study(tmp_path, gpus, parallel, train=train)
    assert text in str(raised.value)


def test_an_engine_over_more_gpus_than_the_job_has(tmp_path):
    evaluate = {"engine": "vllm", "vllm": {"tensor_parallel_size": 2}}
    with pytest.raises(InputError, match=r"tensor_parallel_size = 2 is more than resources.evaluate.gpus = 1"):
        study(tmp_path, 1, evaluate=evaluate, resources={"evaluate": {"gpus": 1}})
    load_study(write_study(tmp_path, {"evaluate": evaluate, "resources": {"evaluate": {"gpus": 2}}}))


def test_the_number_of_gpus_decides_no_result(tmp_path):
    one, many = study(tmp_path, 1), study(tmp_path, 4, {"sharding": "fsdp"})
    assert one.settings_sha256("train_grpo") == many.settings_sha256("train_grpo")


def test_passes_are_shared_evenly():
    assert passes_per_process(8, 4) == 2
    with pytest.raises(InputError, match="make it a multiple"):
        passes_per_process(8, 3)

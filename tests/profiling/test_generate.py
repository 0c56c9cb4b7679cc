from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from transformers.cache_utils import StaticLayer

from gainwatt.errors import UnavailableError
from gainwatt.limits import DeviceLimits
from gainwatt.modeling import load_tokenizer
from gainwatt.profiling import trial
from gainwatt.profiling.arms import load_arm, set_attention
from gainwatt.profiling.generate import Generator
from gainwatt.profiling.roofs import limits_of
from gainwatt.profiling.trial import gpu_failed, outcome, try_arm
from gainwatt.study.profiling_cells import Arm, Load

EAGER = Arm("fp32", "eager", "sdpa", "fp32")


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint):
    return load_arm(EAGER, tiny_checkpoint, "fp32", trust_remote_code=False)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return load_tokenizer(tiny_checkpoint.folder)


@pytest.fixture
def ids():
    return torch.arange(3, 3 + 2 * 9).reshape(2, 9)


def generator(loaded, mode="eager"):
    return Generator(loaded.model, mode, pad_token_id=0, cache_tokens=16)


def test_exactly_as_many_tokens_as_asked_for(loaded, ids):
    seen = []

    @contextlib.contextmanager
    def phase(name):
        seen.append(name)
        yield
        seen.append(f"/{name}")

    made = generator(loaded)
    timing = made(ids, 6, phase)
    assert made.made.shape == (2, 6)
    assert 0 < timing.ttft_s < timing.latency_s
    assert seen == ["prefill", "/prefill", "decode", "/decode"]


def test_one_token_is_all_prefill(loaded, ids):
    timing = generator(loaded)(ids, 1)
    assert 0 < timing.ttft_s <= timing.latency_s


def test_a_fixed_cache_generates_the_same(loaded, ids):
    eager, static = generator(loaded), generator(loaded, "static")
    eager(ids, 6)
    static(ids, 6)
    assert eager.made.tolist() == static.made.tolist()
    static(ids, 3)  # fewer tokens, the same cache
    assert static.made.tolist() == eager.made[:, :3].tolist()
    static.forget_cache()
    static.forget_cache()


def test_the_fixed_cache_is_as_long_as_its_own_load_needs(loaded, tokenizer, monkeypatch):
    static = dataclasses.replace(loaded, arm=Arm("fp32", "static", "sdpa", "fp32~static"))
    lengths, init = [], StaticLayer.__init__

    def made(self, max_cache_len, **options):
        lengths.append(max_cache_len)
        init(self, max_cache_len, **options)

    monkeypatch.setattr(StaticLayer, "__init__", made)
    for prompt_tokens in (40, 8):
        lengths.clear()
        assert try_arm(static, Load(1, prompt_tokens, 4), tokenizer, kernels=False).status == "ok"
        assert set(lengths) == {prompt_tokens + 4}


def test_graphs_need_a_gpu(loaded):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UnavailableError, match="CUDA graphs need an NVIDIA GPU"):
        generator(loaded, "cuda-graphs")


def test_an_arm_knows_its_bytes_and_layers(loaded, tiny_checkpoint):
    assert loaded.parameter_bytes >= tiny_checkpoint.weight_bytes * 0.99
    assert loaded.used_bytes() == loaded.parameter_bytes
    assert "Linear[float32]" in loaded.layers()
    assert loaded.shape is not None
    assert loaded.after_load_mib is None or loaded.after_load_mib > 0


def test_attention_is_switched_or_unavailable(loaded):
    set_attention(loaded.model, "eager")
    assert loaded.model.config._attn_implementation == "eager"
    set_attention(loaded.model, "sdpa")
    with pytest.raises(UnavailableError, match="flash_attention_2"):
        set_attention(loaded.model, "flash")


def test_a_trial_looks_at_everything(loaded, tokenizer):
    found = try_arm(loaded, Load(2, 8, 4), tokenizer, kernels=True)
    assert found.status == "ok"
    assert found.look is not None
    assert found.look.step_launches > 10
    assert found.used_bytes == loaded.parameter_bytes
    assert found.words is not None
    assert found.ids.shape == (2, 8)
    assert try_arm(loaded, Load(1, 8, 1), tokenizer, kernels=False).look_reason == "profile.kernels is off"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("no"), "oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "oom"),
        (RuntimeError("not implemented for 'Half'\nmore"), "unavailable"),
        (UnavailableError("the GPU is too old"), "unavailable"),
        (NotImplementedError("no kernel"), "unavailable"),
    ],
)
def test_a_failure_is_a_row(loaded, tokenizer, monkeypatch, error, status):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(loaded.model, "generate", fail)
    found = try_arm(loaded, Load(1, 8, 4), tokenizer, kernels=False)
    assert found.status == status
    assert found.reason
    assert "\n" not in found.reason


def test_other_failures_are_none():
    assert outcome(KeyError("a mistake of ours")) is None
    assert gpu_failed(RuntimeError("CUDA error: an illegal memory access"))
    assert not gpu_failed(RuntimeError("CUDA error: out of memory"))


def test_limits_say_why_there_are_none():
    known = DeviceLimits(1, 1, 1, "made up")
    assert limits_of({"fp16": known}, "fp16") == (known, None)
    assert limits_of({"fp16": "no room"}, "fp16") == (None, "no room")
    assert limits_of({}, "fp16")[1] == "the limits were not measured"


def test_a_model_that_torch_did_not_compile_is_unavailable(loaded, tokenizer, monkeypatch):
    compiled = dataclasses.replace(loaded, arm=Arm("fp32", "compile", "sdpa", "fp32~compile"))
    eager = trial.Generator
    monkeypatch.setattr(trial, "Generator", lambda model, mode, **options: eager(model, "eager", **options))
    monkeypatch.setattr(trial, "compiled_graphs", lambda: 3)
    found = try_arm(compiled, Load(1, 8, 4), tokenizer, kernels=False)
    assert found.status == "unavailable"
    assert "did not compile" in found.reason
    counts = iter([3, 4, 4, 4])
    monkeypatch.setattr(trial, "compiled_graphs", lambda: next(counts))
    assert try_arm(compiled, Load(1, 8, 4), tokenizer, kernels=False).status == "ok"
    assert try_arm(compiled, Load(1, 6, 6), tokenizer, kernels=False).status == "ok"  # the same sizes: all is there

"""The warm-up of the engine in the process: what it does, and what it leaves to the generation."""

from __future__ import annotations

import pytest
import torch

from gainwatt.engines.base import EngineError

from .greedy import engine, texts


def test_warm_up_changes_no_answer(model, tokenizer, requests):
    made = engine(model, tokenizer)
    made.warm_up(requests)
    assert texts(made.generate(requests)) == texts(engine(model, tokenizer).generate(requests))


def test_warm_up_takes_the_batches_that_come_first_and_last(model, tokenizer, requests, monkeypatch):
    seen: list[tuple[int, ...]] = []
    plain = model.generate

    def watched(**options):
        seen.append((*options["input_ids"].shape, options["max_new_tokens"]))
        return plain(**options)

    monkeypatch.setattr(model, "generate", watched)
    engine(model, tokenizer, batch_size=2).warm_up(requests, tokens=3)
    engine(model, tokenizer, batch_size=9, max_new_tokens=5).warm_up(requests)
    widths = [len(request.token_ids) for request in requests]
    assert seen == [(2, max(widths), 3), (1, min(widths), 3), (7, max(widths), 5)]


def test_warm_up_leaves_a_lack_of_memory_to_the_generation(model, tokenizer, requests, monkeypatch):
    def full(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = engine(model, tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(model, "generate", full)
        made.warm_up(requests)
    assert texts(made.generate(requests)) == texts(engine(model, tokenizer).generate(requests))


def test_a_gpu_that_fails_while_it_warms_up_is_a_dead_engine(model, tokenizer, requests, monkeypatch):
    def broken(**_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    made = engine(model, tokenizer)
    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(EngineError, match=r"the GPU failed: CUDA error: an illegal memory access was encountered"):
        made.warm_up(requests)


def test_any_other_error_in_the_warm_up_is_not_hidden(model, tokenizer, requests, monkeypatch):
    def broken(**_):
        raise ValueError("no such option")

    made = engine(model, tokenizer)
    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(ValueError, match="no such option"):
        made.warm_up(requests)

"""Requests that join and leave a running batch get the tokens that they would have got alone."""

from __future__ import annotations

import pytest
import torch

from factories import QUESTIONS
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.serving.local.batch import Batcher, Ended, Work

TOKENS = 12


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")


@pytest.fixture
def batcher(model, tokenizer):
    made = Batcher(model, pad_id=tokenizer.pad_token_id, max_rows=4)
    made.start()
    yield made
    made.close()
    assert not made.alive()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [tuple(tokenizer(text[: 12 + 5 * place])["input_ids"]) for place, text in enumerate(QUESTIONS[:9])]


@pytest.fixture(scope="module")
def alone(model, tokenizer, prompts):
    """Each prompt's tokens when nobody shares the batch, by the engine that evaluations use."""
    engine = TransformersEngine(model, tokenizer, batch_size=1, max_new_tokens=TOKENS, repetition_penalty=1.0)
    engine.set_length(TOKENS, fixed=True)
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        found.append(out[0, len(prompt) :].tolist())
    assert len({tuple(tokens) for tokens in found}) > 1
    return found


def heard(work):
    tokens = []
    while True:
        found = work.heard.get(timeout=60)
        if isinstance(found, Ended):
            return tokens, found.reason
        tokens.append(found)


def test_nine_requests_of_all_lengths_in_four_rows(batcher, prompts, alone):
    lengths = [TOKENS, 3, 7, 1, TOKENS, 5, 2, TOKENS, 4]
    works = [Work(prompt, length) for prompt, length in zip(prompts, lengths, strict=True)]
    for work in works:
        batcher.add(work)
    for work, length, tokens in zip(works, lengths, alone, strict=True):
        assert heard(work) == (tokens[:length], "length")
    assert batcher.peak_rows == 4
    # 2 (keys, values) x 2 layers x 2 heads x 32 x 4 bytes a token
    assert batcher.token_bytes == 1024
    assert batcher.peak_kv_bytes >= 1024 * len(prompts[0])
    assert batcher.events == []
    batcher.close()  # what is told last is told before the rows are taken out
    assert (batcher.load(), batcher.kv_bytes) == ((0, 0), 0)


def test_one_that_joins_later_disturbs_nobody(batcher, prompts, alone):
    first = Work(prompts[0], TOKENS)
    batcher.add(first)
    beginning = [first.heard.get(timeout=60) for _ in range(3)]
    second = Work(prompts[8], TOKENS)
    batcher.add(second)
    rest, reason = heard(first)
    assert (beginning + rest, reason) == (alone[0], "length")
    assert heard(second) == (alone[8], "length")


def test_a_stop_token_ends_and_is_heard(batcher, prompts, alone):
    stop = alone[0][4]
    expected = alone[0][: alone[0].index(stop) + 1]
    work = Work(prompts[0], TOKENS, stop_ids=frozenset({stop}))
    batcher.add(work)
    assert heard(work) == (expected, "stop")


def test_no_stop_token_before_min_tokens(batcher, prompts, alone):
    stop = alone[0][0]
    work = Work(prompts[0], TOKENS, min_tokens=3, stop_ids=frozenset({stop}))
    batcher.add(work)
    tokens, _ = heard(work)
    assert len(tokens) >= 4
    assert stop not in tokens[:3]


def test_one_that_left_makes_room(batcher, prompts, alone):
    gone = [Work(prompt, 10**6) for prompt in prompts[:4]]
    for work in gone:
        batcher.add(work)
        work.heard.get(timeout=60)
        work.left = True
    work = Work(prompts[5], TOKENS)
    batcher.add(work)
    assert heard(work) == (alone[5], "length")


def test_a_failure_ends_the_batch_and_not_the_server(batcher, prompts, alone, monkeypatch):
    def fails(rows):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(batcher, "_prefill", fails)
    work = Work(prompts[0], TOKENS)
    batcher.add(work)
    assert work.heard.get(timeout=60).message.startswith("out of memory: ")
    monkeypatch.undo()
    again = Work(prompts[0], TOKENS)
    batcher.add(again)
    assert heard(again) == (alone[0], "length")
    assert len(batcher.events) == 1


def test_who_is_not_done_at_the_end_hears_so(model, tokenizer, prompts):
    batcher = Batcher(model, pad_id=tokenizer.pad_token_id, max_rows=1)
    batcher.start()
    works = [Work(prompts[0], 10**6), Work(prompts[1], 3)]
    for work in works:
        batcher.add(work)
    works[0].heard.get(timeout=60)
    batcher.close()
    assert [heard(work)[1] for work in works] == ["error", "error"]

"""The loss on reference solutions against a loop over single tokens."""

from __future__ import annotations

import math

import pytest
import torch

from factories import items
from gainwatt.evaluation.reference import reference_loss
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme

TEMPLATE = "{question}"


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint):
    return load_model(tiny_checkpoint, get_scheme("fp32"), "fp32"), load_tokenizer(tiny_checkpoint.folder)


def naive(model, tokenizer, asked, limit):
    losses = []
    for item in asked:
        prompt = tokenizer(chat_prompt(tokenizer, item.question, TEMPLATE), add_special_tokens=False)["input_ids"]
        whole = solved_chat(tokenizer, item.question, item.solution, TEMPLATE)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert ids[: len(prompt)] == prompt
        for place in range(len(prompt), min(len(ids), len(prompt) + limit)):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids[:place]])).logits[0, -1].double()
            losses.append(-float(torch.log_softmax(logits, 0)[ids[place]]))
    return losses


@pytest.mark.parametrize(("batch_size", "limit"), [(1, 512), (3, 512), (4, 5)])
def test_against_a_loop(loaded, batch_size, limit):
    model, tokenizer = loaded
    found = reference_loss(
        model, tokenizer, items(4), template=TEMPLATE, batch_size=batch_size, max_reference_tokens=limit
    )
    losses = naive(model, tokenizer, items(4), limit)
    assert found["reference_ppl_token_count"] == len(losses)
    assert found["reference_nll_per_token"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["reference_ppl"] == pytest.approx(math.exp(found["reference_nll_per_token"]))


def test_the_limit_cuts_every_solution(loaded):
    model, tokenizer = loaded
    found = reference_loss(model, tokenizer, items(4), template=TEMPLATE, batch_size=4, max_reference_tokens=2)
    assert found["reference_ppl_token_count"] == 8

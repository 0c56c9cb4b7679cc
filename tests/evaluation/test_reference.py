"""What of a reference solution is scored, and the loss over it."""

from __future__ import annotations

import math

import pytest

from factories import items
from gainwatt.errors import InputError
from gainwatt.evaluation.reference import solved_items, summarize_loss
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.modeling import load_tokenizer

TEMPLATE = "{question}"


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


def solved(tokenizer, asked, limit=512, context=None):
    return solved_items(tokenizer, asked, template=TEMPLATE, max_reference_tokens=limit, context_tokens=context)


def test_the_solution_and_the_end_of_turn_are_scored_and_nothing_behind_it(tokenizer):
    for item, found in zip(items(4), solved(tokenizer, items(4)), strict=True):
        prompt = tokenizer(chat_prompt(tokenizer, item.question, TEMPLATE), add_special_tokens=False)["input_ids"]
        assert found.index == item.index
        assert list(found.token_ids[: found.prompt_tokens]) == prompt
        scored = found.token_ids[found.prompt_tokens :]
        assert tokenizer.decode(scored) == f"{item.solution}<|im_end|>"
        assert scored[-1] == tokenizer.eos_token_id


def test_the_limit_cuts_every_solution(tokenizer):
    assert [len(found.token_ids) - found.prompt_tokens for found in solved(tokenizer, items(4), limit=2)] == [2] * 4


def test_a_solution_longer_than_the_context_is_named(tokenizer):
    with pytest.raises(InputError, match=r"reference solution of item 0 have \d+ tokens, and the model holds 9"):
        solved(tokenizer, items(4), context=9)


class Merging:
    """A tokenizer by characters that joins two newlines into one token, also over the end of the prompt."""

    eos_token_id = 1
    name_or_path = "merging"
    chat_template = "yes"

    def __init__(self, *, lossless=True):
        self.lossless = lossless

    def get_vocab(self):
        return {"<|im_end|>": 1}

    def apply_chat_template(self, turns, *, tokenize, add_generation_prompt):
        text = f"{turns[0]['content']}\n"
        return text if add_generation_prompt else f"{text}{turns[1]['content']}\x01"

    def __call__(self, text, add_special_tokens):
        joined = text.replace("\n\n", "\x02")
        joined = joined if self.lossless or not joined.startswith("\n") else joined[1:]
        return {"input_ids": [ord(letter) for letter in joined]}

    def decode(self, ids):
        return "".join(map(chr, ids)).replace("\x02", "\n\n")


def test_a_token_over_the_end_of_the_prompt_is_split_as_the_evaluation_does():
    item = Item(0, "q", "\n4", "4")
    (found,) = solved(Merging(), [item])
    assert found.token_ids == tuple(map(ord, "q\n\n4\x01"))
    assert found.prompt_tokens == 2
    with pytest.raises(InputError, match="item 0: the tokenizer 'merging' joins the end of the prompt"):
        solved(Merging(lossless=False), [item])


def test_the_summary_weighs_by_tokens():
    found = summarize_loss([(6.0, 3), (1.0, 1), (2.0, 2)])
    assert found["reference_ppl_token_count"] == 6
    assert found["reference_nll_per_token"] == pytest.approx(1.5)
    assert found["reference_ppl"] == pytest.approx(math.exp(1.5))

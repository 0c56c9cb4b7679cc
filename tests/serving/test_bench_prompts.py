"""Prompts: the same for every checkpoint, others for every cell and repeat."""

from __future__ import annotations

import pytest

from factories import items
from gainwatt.errors import InputError
from gainwatt.modeling import load_tokenizer
from gainwatt.serving.prompts import Prompts, source
from gainwatt.study.serving import Serve
from gainwatt.study.serving_cells import Load

SERVE = Serve(max_new_tokens=8, fixed_prompt_tokens=12, fixed_new_tokens=6, max_model_tokens=128)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def made(tokenizer):
    return source(tokenizer, items(6), "{question}", SERVE, 2048)


def prompts(made, lengths="fixed", size=4, serve=SERVE):
    return Prompts(made, serve, Load("offline", lengths, "batch", size))


def test_the_same_draw_is_the_same_and_any_other_is_another(made):
    first = prompts(made).draw(8, "measure 0 0")
    assert prompts(made).draw(8, "measure 0 0") == first
    others = [
        prompts(made).draw(8, "measure 1 0"),
        prompts(made, size=8).draw(8, "measure 0 0"),
        prompts(made, serve=SERVE.model_copy(update={"seed": 1})).draw(8, "measure 0 0"),
    ]
    assert not [other for other in others if set(other) & set(first)]


def test_fixed_prompts_have_one_length_and_no_special_token(made, tokenizer):
    drawn = prompts(made).draw(50, "x")
    assert {len(ids) for ids in drawn} == {12}
    assert not {token for ids in drawn for token in ids} & set(tokenizer.all_special_ids)


def test_natural_prompts_come_once_each_before_any_comes_again(made):
    drawn = prompts(made, "natural").draw(15, "x")
    assert sorted(drawn[:6]) == sorted(drawn[6:12]) == sorted(made.questions)
    assert drawn[:6] != drawn[6:12]
    assert len(set(drawn[12:])) == 3


def test_the_hash_tells_what_was_drawn_and_in_which_order(made):
    one, two = prompts(made), prompts(made)
    one.draw(2, "a")
    two.draw(2, "b")
    assert one.sha256 != two.sha256
    assert (one.drawn, two.drawn) == (2, 2)


@pytest.mark.parametrize(
    ("changed", "context", "said"),
    [
        ({"max_new_tokens": 120}, 2048, "the prompt of question 0 has"),
        ({}, 16, "need 12 \\+ 6 positions, and there are 16"),
    ],
)
def test_what_does_not_fit_is_named(tokenizer, changed, context, said):
    with pytest.raises(InputError, match=said):
        source(tokenizer, items(6), "{question}", SERVE.model_copy(update=changed), context)

"""Score and reward."""

from __future__ import annotations

import pytest

from gainwatt.errors import InputError
from gainwatt.gsm8k.score import gold_answer, reward, score


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("#### 18", "18", 1.0),
        ("The answer is 18.", "18", 1.0),
        ("#### 17", "18", 0.0),
        ("no number", "18", 0.0),
        ("#### 18\nHuman: next", "18", 0.75),
        ("18 eggs.\nProblem: Tom has 5. He has 7 pears", "18", 0.75),
        ("#### 17\nProblem: 18", "18", -0.25),
        ("#### 2125", "2,125", 1.0),
        ("#### 1/2", "0.5", 1.0),
    ],
)
def test_reward(text, gold, expected):
    assert reward(text, gold) == expected


@pytest.mark.parametrize(
    "text",
    [
        "She makes $18 every day...",
        "$18.00",
        "The answer is 18. Let me double check...",
        "18 dollars, as shown in step 2",
    ],
)
def test_right_answers_that_the_flexible_filter_misses(text):
    got = score(text, "18")
    assert got.correct
    assert not got.flexible_match
    assert not got.strict_match
    assert got.strict_extract == "[invalid]"


def test_score_holds_all_three():
    got = score("9 * 2 = 18\n#### 18", "18")
    assert (got.correct, got.strict_match, got.flexible_match) == (True, True, True)
    assert (got.strict_extract, got.flexible_extract) == ("18", "18")
    assert got.parsed.branch == "hash"


def test_an_unread_answer_is_wrong():
    got = score("no number", "18")
    assert not got.correct
    assert got.flexible_extract == "[invalid]"


@pytest.mark.parametrize(
    ("solution", "gold"), [("9*2=18\n#### 18", "18"), ("#### 2,125", "2,125"), ("a #### 1\n####  -3 ", "-3")]
)
def test_gold_answer(solution, gold):
    assert gold_answer(solution) == gold


@pytest.mark.parametrize(
    ("solution", "message"),
    [("18", "no '####' line"), ("", "no '####'"), ("#### ", "not a number"), ("#### yes", "yes")],
)
def test_gold_answer_that_is_none(solution, message):
    with pytest.raises(InputError, match=message):
        gold_answer(solution)


def test_gold_that_is_no_number():
    for scorer in (score, reward):
        with pytest.raises(InputError, match="not a number: 'many'"):
            scorer("#### 18", "many")

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction

import pytest

from gainwatt.embedded import problems
from gainwatt.embedded.families import BY_NAME, DEFAULT_FAMILIES
from gainwatt.embedded.slips import Slips
from gainwatt.errors import InputError

SPLITS = ("sft", "train", "validation", "test")
LINE = re.compile(r"^(\d+)([-+*/])(\d+)=<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)$")
WIDE = problems.Difficulty(
    start_max=400, change_max=60, count_max=12, each_max=30, divisor_max=9, value_max=9999, families=tuple(BY_NAME)
)

# A step whose repetition does not belong to the warm start.
FOREIGN_DRILL = next(f"{a}-2" for a in range(4, 99) if problems.split_of(f"{a}-2;{a}-2") != "sft")


def evaluate(answer: str) -> tuple[list[Fraction], str]:
    """Work out every annotated line with exact fractions; return the results and the written final answer."""
    *lines, last = answer.split("\n")
    results = []
    for line in lines:
        match = LINE.match(line)
        assert match, line
        left, op, right, inner_left, inner_op, inner_right, inner, result = match.groups()
        assert (left, op, right, result) == (inner_left, inner_op, inner_right, inner)
        a, b = Fraction(left), Fraction(right)
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[op]
        assert value == Fraction(result), line
        results.append(value)
    assert re.fullmatch(r"#### \d+", last)
    return results, last.removeprefix("#### ")


@pytest.mark.parametrize("level", [problems.Difficulty(), WIDE], ids=["default", "wide"])
def test_gold_answers_are_right_by_exact_arithmetic(level):
    for row in problems.generate(split="train", n=400, seed=3, difficulty=level):
        results, final = evaluate(row["answer"])
        assert len(results) == int(row["steps"])
        assert results[-1] == Fraction(final) >= 1
        assert max(results) <= level.value_max
        assert row["slip"] == ""


def test_every_number_of_the_first_step_is_told_in_the_question():
    for row in problems.generate(split="train", n=300, seed=1, difficulty=WIDE):
        told = set(re.findall(r"\d+", row["question"]))
        left, _, right = re.match(r"(\d+)(.)(\d+)", row["answer"]).groups()
        assert {left, right} <= told


def test_splits_share_neither_text_nor_combination_whatever_the_settings():
    texts, combinations = {}, {}
    settings = [(0, problems.Difficulty()), (7, problems.Difficulty(start_max=15, value_max=60)), (0, WIDE)]
    for split in SPLITS:
        for seed, level in settings:
            for row in problems.generate(split=split, n=400, seed=seed, difficulty=level):
                assert texts.setdefault(row["question"], split) == split
                assert combinations.setdefault(row["combination"], split) == split
                assert problems.split_of(row["combination"]) == split


def test_the_order_of_factors_and_summands_does_not_make_a_new_combination():
    from gainwatt.embedded.slips import Step

    one = [Step(3, "*", 4, 12), Step(7, "+", 12, 19), Step(19, "-", 4, 15)]
    other = [Step(4, "*", 3, 12), Step(12, "+", 7, 19), Step(19, "-", 4, 15)]
    assert problems.combination_of(one) == problems.combination_of(other) == "3*4;7+12;19-4"


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_question_and_no_combination_twice(split):
    rows = problems.generate(split=split, n=300, seed=0)
    assert len({row["question"] for row in rows}) == len({row["combination"] for row in rows}) == 300


def test_same_arguments_give_the_same_bytes_and_another_seed_gives_others():
    def digest(seed):
        rows = problems.generate(split="sft", n=200, seed=seed, slips=Slips(0.5, 0.5), max_repeats=None)
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    assert digest(0) == digest(0) != digest(1)


def test_slips_leave_the_problems_alone():
    clean = problems.generate(split="sft", n=300, seed=0)
    careless = problems.generate(split="sft", n=300, seed=0, slips=Slips(unfinished=0.9, reversal=0.9))
    assert [row["question"] for row in clean] == [row["question"] for row in careless]
    assert any(a["answer"] != b["answer"] for a, b in zip(clean, careless, strict=True))


def test_every_family_is_used_and_has_the_steps_it_promises():
    rows = problems.generate(split="sft", n=1600, seed=0, difficulty=WIDE, max_repeats=None)
    seen = {row["family"]: int(row["steps"]) for row in rows}
    assert set(seen) == set(BY_NAME)
    assert {min(seen.values()), max(seen.values())} == {1, 8}
    assert len(DEFAULT_FAMILIES) >= 8
    assert all(len(BY_NAME[name].steps) == steps for name, steps in seen.items())


def test_questions_read_as_english_sentences():
    for row in problems.generate(split="sft", n=800, seed=0, difficulty=WIDE, max_repeats=None):
        question = row["question"]
        assert question.endswith("?")
        assert question[0].isupper()
        assert not re.search(r"[{}]|  |\s[.,?]", question)
        assert not re.search(r"\b1 \w+s\b", question), "counts start at 2, so that plurals are right"
        assert all(sentence[0].isupper() for sentence in re.split(r"(?<=[.?]) ", question))
        assert not re.search(r"\b(each|a|one) (bags|boxes|jars|packs)\b", question)


def test_drills_state_true_arithmetic_and_belong_to_the_warm_start():
    rows = problems.generate(split="sft", n=200, seed=0)
    drills = problems.drills(rows, n=100, seed=0, length=3)
    assert drills == problems.drills(rows, n=100, seed=0, length=3)
    for row in drills:
        results, final = evaluate(row["answer"])
        assert len(results) == 3
        assert results[-1] == Fraction(final)
        assert problems.split_of(row["combination"]) == "sft"


def test_more_rows_than_problems_is_an_error_that_says_so():
    level = problems.Difficulty(start_max=4, change_max=3, families=("join",))
    with pytest.raises(InputError, match=r"500 rows asked of split 'test', but only \d different ones") as error:
        problems.generate(split="test", n=500, seed=0, difficulty=level)
    assert "widen the number ranges" in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: problems.generate(split="dev", n=1, seed=0), "there is no split 'dev'"),
        (lambda: problems.generate(split="test", n=-1, seed=0), "n is -1"),
        (lambda: problems.Difficulty(start_max=1), "start_max is 1"),
        (lambda: problems.Difficulty(families=("joins",)), r"unknown problem families \['joins'\]"),
        (lambda: problems.Difficulty(families=()), "no problem family"),
        (lambda: problems.drills([], n=1, seed=0), "drills need rows"),
        (lambda: problems.drills([{"combination": FOREIGN_DRILL}], n=1, seed=0, length=2), "no drill of 2 steps"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()

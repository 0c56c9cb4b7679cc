from __future__ import annotations

import random

import pytest

from gainwatt.embedded.families import BY_NAME
from gainwatt.embedded.slips import NO_SLIPS, Slips, Step, parse_step, solve
from gainwatt.errors import InputError

NUMBERS = {"a": 9, "b": 4, "k": 2}


def written(family: str, slips: Slips, numbers=NUMBERS):
    steps = solve(BY_NAME[family], numbers)
    return slips.write(BY_NAME[family], numbers, steps, random.Random(0))


def test_without_slips_the_solution_is_the_right_one():
    result = written("three_people", NO_SLIPS)
    assert [step.result for step in result.steps] == [13, 18, 22, 40]
    assert result.slip == ""


def test_an_unfinished_solution_ends_one_step_early():
    result = written("three_people", Slips(unfinished=1.0))
    assert [step.result for step in result.steps] == [13, 18, 22]
    assert result.slip == "unfinished"


def test_short_solutions_are_always_finished():
    assert written("reversed_total", Slips(unfinished=1.0)).slip == ""


def test_a_reversed_comparison_carries_its_wrong_result_forward():
    result = written("reversed_total", Slips(reversal=1.0))
    assert result.steps == [Step(9, "+", 4, 13), Step(9, "+", 13, 22)]
    assert result.slip == "reversal"


def test_families_without_a_comparison_are_never_reversed():
    assert written("more_total", Slips(reversal=1.0)).slip == ""


def test_a_result_that_is_no_positive_whole_number_has_no_solution():
    assert solve(BY_NAME["remain"], {"a": 4, "b": 4}) is None
    assert solve(BY_NAME["share_rest"], {"a": 9, "b": 4, "m": 2}) is None
    assert solve(BY_NAME["join"], {"a": 9, "b": 4}, value_max=12) is None


def test_steps_are_read_back_from_text():
    assert parse_step("3*14") == Step(3, "*", 14, 42)
    assert parse_step("3*14", swap=True) == Step(14, "*", 3, 42)
    assert parse_step("12/4", swap=True) == Step(12, "/", 4, 3)
    with pytest.raises(InputError, match="3-4"):
        parse_step("3-4")


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_rates_are_probabilities(rate):
    with pytest.raises(InputError, match="unfinished"):
        Slips(unfinished=rate)
    with pytest.raises(InputError, match="one step must remain"):
        Slips(unfinished_min_steps=1)

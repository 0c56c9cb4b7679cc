"""Careless solutions: the habits that the warm start's demonstrations contain, at rates that a study sets.

Two kinds: a long solution that stops before its last step, and a loss or comparison taken the wrong way round. A
model that imitates such demonstrations knows the careful way as one of two, and reinforcement learning can make it
prefer the careful one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gainwatt.embedded.families import Family
from gainwatt.errors import InputError


class Step(NamedTuple):
    """One written step, `left op right = result`."""

    left: int
    op: str
    right: int
    result: int


class Solution(NamedTuple):
    """What is written: the steps (the last result is the answer), and which habits shaped it ("" or names joined by
    +).
    """

    steps: list[Step]
    slip: str


@dataclass(frozen=True)
class Slips:
    """Probability of each habit in a solution that has room for it.

    `unfinished`: a solution of at least `unfinished_min_steps` steps ends one step early (the answer is wrong).
    `reversal`: the step that a family marks as reversible is taken as + instead of - (the answer is wrong).
    """

    unfinished: float = 0.0
    reversal: float = 0.0
    unfinished_min_steps: int = 4

    def __post_init__(self) -> None:
        """Raise InputError for a rate outside 0 to 1 or a solution that would lose its only step."""
        for name in ("unfinished", "reversal"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(
                    f"the rate of {name} solutions is {getattr(self, name)}", "give a probability from 0 to 1"
                )
        if self.unfinished_min_steps < 2:
            raise InputError("unfinished_min_steps must be at least 2: one step must remain", "set it to 2 or more")

    def write(self, family: Family, numbers: Mapping[str, int], steps: list[Step], rng: random.Random) -> Solution:
        """Return the solution as a careless person may write it."""
        # Both draws in every case, so that a rate does not shift the problems that follow.
        stop, reverse = rng.random() < self.unfinished, rng.random() < self.reversal
        made: list[str] = []
        if reverse and family.reversible is not None:
            other = solve(family, numbers, reverse=True)
            if other is not None:
                steps = other
                made.append("reversal")
        if stop and len(steps) >= self.unfinished_min_steps:
            steps = steps[:-1]
            made.append("unfinished")
        return Solution(steps, "+".join(made))


NO_SLIPS = Slips()


def calculate(left: int, op: str, right: int) -> int | None:
    """Return the exact result; None where it is no integer of at least 1."""
    if op == "+":
        return left + right
    if op == "*":
        return left * right
    if op == "-":
        return left - right if left > right else None
    return left // right if left % right == 0 else None


def solve(
    family: Family, numbers: Mapping[str, int], value_max: int | None = None, *, reverse: bool = False
) -> list[Step] | None:
    """Return the steps, or None where a result is no integer from 1 to `value_max`; `reverse` reads the comparison
    wrongly.
    """
    results: list[int] = []
    steps: list[Step] = []
    for i, (left_ref, plan_op, right_ref) in enumerate(family.steps):
        left = results[left_ref] if isinstance(left_ref, int) else numbers[left_ref]
        right = results[right_ref] if isinstance(right_ref, int) else numbers[right_ref]
        op = "+" if reverse and i == family.reversible else plan_op
        result = calculate(left, op, right)
        if result is None or (value_max is not None and result > value_max):
            return None
        results.append(result)
        steps.append(Step(left, op, right, result))
    return steps


def parse_step(text: str, *, swap: bool = False) -> Step:
    """Read `7+12` as a step with its exact result; `swap` exchanges the operands of + and *."""
    op = next(sign for sign in "+-*/" if sign in text)
    left, right = (int(part) for part in text.split(op))
    if swap and op in "+*":
        left, right = right, left
    result = calculate(left, op, right)
    if result is None:
        raise InputError(f"the step {text} has no whole result of at least 1", "pass rows made by problems.generate")
    return Step(left, op, right, result)

"""One score for training and evaluation: the same parser decides the reward and the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from gainwatt.errors import InputError
from gainwatt.gsm8k.lm_eval import exact_match, flexible_extract, strict_extract
from gainwatt.gsm8k.parse import Parsed, normalise_number, parse_answer

LEAK_PENALTY = 0.25


@dataclass(frozen=True)
class Score:
    """Our score of one completion, and lm-eval's two beside it.

    `correct` compares exact values; `strict_match` and `flexible_match` compare `strict_extract` and
    `flexible_extract` with the reference as lm-eval does, as strings.
    """

    correct: bool
    parsed: Parsed
    strict_match: bool
    flexible_match: bool
    strict_extract: str
    flexible_extract: str


def gold_answer(solution: str) -> str:
    """The reference answer of a GSM8K solution as it is written there ("2,125"): what follows its last `####`.

    Raises InputError where there is no `####` or no number after it.
    """
    _, mark, answer = solution.rpartition("####")
    answer = answer.strip()
    hint = "a GSM8K reference solution ends with a line '#### <number>'"
    if not mark:
        raise InputError(f"the reference solution has no '####' line: {_shown(solution)}", hint)
    if normalise_number(answer) is None:
        raise InputError(f"the reference answer after '####' is not a number: {_shown(answer)}", hint)
    return answer


def score(text: str, gold: str) -> Score:
    """Score the completion `text` against the reference answer `gold`, as `gold_answer` returns it.

    Raises InputError where `gold` is not a number.
    """
    parsed = parse_answer(text)
    strict, flexible = strict_extract(text), flexible_extract(text)
    return Score(
        correct=parsed.fraction is not None and parsed.fraction == _gold_value(gold),
        parsed=parsed,
        strict_match=exact_match(strict, gold),
        flexible_match=exact_match(flexible, gold),
        strict_extract=strict,
        flexible_extract=flexible,
    )


def reward(text: str, gold: str) -> float:
    """Verifiable reward of the completion `text`: 1 if its answer equals `gold`, minus 0.25 if the prompt leaks.

    One of 1.0, 0.75, 0.0 and -0.25. Raises InputError where `gold` is not a number.
    """
    expected = _gold_value(gold)
    parsed = parse_answer(text)
    return float(parsed.fraction == expected) - (LEAK_PENALTY if parsed.leak else 0.0)


@lru_cache(maxsize=16384)
def _gold_value(gold: str) -> Fraction:
    value = normalise_number(gold)
    if value is None:
        raise InputError(
            f"the reference answer is not a number: {_shown(gold)}",
            "give the number alone, as gold_answer reads it from a solution",
        )
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"…{text[-80:]}")

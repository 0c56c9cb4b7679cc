"""The value of an answer line: exact arithmetic on + - * / ^ ** and brackets, and chains of "=".

"5 + 3 = 8" is 8 (what stands right of the last "="), "10-5" is 5 (worked out), "18 dollars, as shown in step 2" is
18 (the first number counts; what follows is comment). The grammar is a few lines of recursive descent over exact
fractions; nothing read is ever evaluated as code.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gainwatt.gsm8k.numbers import number_at

REGION_CHARS = 240  # what stands further on in an answer line is comment, an expression as long as this is none
_MAX_DEPTH = 12
_MAX_BITS = 2000
_MAX_POWER = 30

_SUM = re.compile(r"[ \t]*([-+])[ \t]*")
_PRODUCT = re.compile(r"[ \t]*(\*(?!\*)|/|[xX](?=[ \t]*[\d($.]))[ \t]*")
_POWER = re.compile(r"[ \t]*(?:\^[ \t]*|\*\*(?=\d))\{?(\d{1,3})(?!\d)\}?")
_EQUALS = re.compile(r"==?>?|≈|->|→|⇒")
_AFTER_EQUALS = re.compile(r"(?:[ \t*_`\[{\"'~#:$]|about|approximately|approx\.)*")
_CLAUSE = re.compile(r"[;:!?]|[.,](?:\s|$)")
_OPERATOR = re.compile(r"[-+*/]|\b(?:of|times|plus|minus)\b")
_WORDS = re.compile(r"[^\W\d_]+(?:[ \t]+[^\W\d_]+)*")

Reading = tuple[Fraction, int]


def read_answer(text: str, start: int) -> Fraction | None:
    """Read the answer that begins with the number (or its sign) at `start` of cleaned `text`.

    Only the line of `start` counts. An expression is worked out; where "=" follows and what stands before it is
    arithmetic (numbers, operators, at most two unit words in a row, closed brackets, no new clause), the value
    right of it is taken, and so on along the chain. Returns None where nothing can be read (division by zero, a
    value of absurd size).
    """
    line = text[:start] + text[start : start + REGION_CHARS].split("\n", 1)[0]
    position = _with_brackets(line, start)
    got = evaluate_at(line, position)
    while got is not None and got[1] < start + REGION_CHARS:
        equals = _EQUALS.search(line, got[1])
        if equals is None or not _is_working(line, position, got[1], equals.start()):
            return got[0]
        after = _AFTER_EQUALS.match(line, equals.end())
        position = _with_brackets(line, after.end() if after else equals.end())
        right = evaluate_at(line, position)
        if right is None:
            return got[0]
        got = right
    return None


def evaluate_at(text: str, start: int) -> Reading | None:
    """Work out the longest expression of cleaned `text` from `start` on: its value and the index after it."""
    try:
        return _sum(text, start, 0)
    except ZeroDivisionError:
        return None


def _with_brackets(text: str, start: int) -> int:
    """Move `start` back over the brackets that open an expression, if the expression closes them."""
    position = start
    while position and text[position - 1] == "(":
        position -= 1
    while position < start and evaluate_at(text, position) is None:
        position += 1
    return position


def _is_working(line: str, start: int, end: int, equals: int) -> bool:
    """Whether line[start:equals], whose arithmetic was read up to `end`, is the left side of an equation."""
    left, comment = line[start:equals], line[end:equals]
    if left.count("(") != left.count(")") or _CLAUSE.search(comment):
        return False
    longest = max((len(found.split()) for found in _WORDS.findall(comment)), default=0)
    return longest <= (2 if _OPERATOR.search(left) else 1)


def _sum(text: str, start: int, depth: int) -> Reading | None:
    got = _product(text, start, depth)
    while got is not None:
        sign = _SUM.match(text, got[1])
        right = _product(text, sign.end(), depth) if sign else None
        if sign is None or right is None:
            return got
        got = _bounded(got[0] + right[0] if sign[1] == "+" else got[0] - right[0], right[1])
    return None


def _product(text: str, start: int, depth: int) -> Reading | None:
    got = _factor(text, start, depth)
    while got is not None:
        sign = _PRODUCT.match(text, got[1])
        right = _factor(text, sign.end(), depth) if sign else None
        if sign is None or right is None:
            return got
        got = _bounded(got[0] / right[0] if sign[1] == "/" else got[0] * right[0], right[1])
    return None


def _factor(text: str, start: int, depth: int) -> Reading | None:
    opens = text[start : start + 1] == "("
    got = _bracket(text, start, depth) if opens else number_at(text, start, fraction=False)
    if got is None:
        return None
    if text[got[1] : got[1] + 1] == "%":
        got = got[0], got[1] + 1
    power = _POWER.match(text, got[1])
    if power is None:
        return got
    if int(power[1]) > _MAX_POWER:
        return None
    return _bounded(got[0] ** int(power[1]), power.end())


def _bracket(text: str, start: int, depth: int) -> Reading | None:
    inner = _sum(text, start + 1, depth + 1) if depth < _MAX_DEPTH else None
    if inner is None:
        return None
    close = inner[1] + (text[inner[1] : inner[1] + 1] == " ")
    return (inner[0], close + 1) if text[close : close + 1] == ")" else None


def _bounded(value: Fraction, end: int) -> Reading | None:
    """Refuse values whose size only a degenerate text can reach."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        return None
    return value, end

"""The answer that a completion gives, and how it gives it.

The order of work decides the result:

1. Thinking is left out: an opening `<think>` up to its `</think>` (never closed: there is no answer yet), or all up
   to a `</think>` whose opening the chat template wrote, unless a final answer stands before it.
2. The text is cut at the first leak marker (leak.py). Nothing behind it is read.
3. The first final answer, an `<answer>` element or a `####` line with a number, ends the text: what follows it
   cannot change the answer. An enumerated heading ("#### 1. Count the eggs", "#### 2. …") is no final answer; a
   final answer that cannot be read ("#### 1/0") is no answer, and no earlier number stands in for it.
4. Branches by priority: `answer_tag`, `hash`, `phrase` (the last "the answer is …"), `last_number` (the last
   number as it is written, "step 2" and the like left out), `none`.

The first three branches read the rest of the line as arithmetic.py says. `format_compliant` is a separate matter:
the prompt asks for exactly one last line `#### <answer>`, whatever the fallbacks can still make of another text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from gainwatt.gsm8k.arithmetic import read_answer
from gainwatt.gsm8k.leak import leak_start
from gainwatt.gsm8k.numbers import clean, next_number, normalise_number, number_at, number_text, starts_number

__all__ = ["Branch", "Parsed", "normalise_number", "parse_answer"]

Branch = Literal["answer_tag", "hash", "phrase", "last_number", "none"]
Found = tuple[Fraction | None, Branch]
_NOTHING: Found = (None, "none")

_PHRASE_GAP = 80  # characters between "the answer is" and its number
_FINAL = re.compile(r"<answer>(?P<tag>[^<]{0,400})</answer>|#{4,}(?P<hash>[^\n]*)", re.IGNORECASE)
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_NEXT_LINE = re.compile(r"\s*([^\n]*)")
_LEAD = re.compile(
    r"(?:[\s*_`\[({\"'“”‘’#:=≈~>|$]|<[^<>\n]{1,40}>|(?:about|approximately|approx\.|exactly)(?=\W)"
    r"|(?:the\s+)?(?:(?:final|numeric|numerical|correct)\s+)*answer\b(?:\s+is\b)?)*",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(\d{1,2})[.):]\s+[^\W\d]")
_PHRASE = re.compile(
    r"\b(?:final|direct)\s+(?:numeric(?:al)?\s+)?answer\b"
    r"|\banswer(?:\s+(?:to|for)\b[^.\n\d]{0,60}?)?\s*(?:\bis\b|\bwould\s+be\b|\bequals\b|:|=)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\b(?:steps?|equations?|eq\.|methods?)[ \t]*[#(]?$", re.IGNORECASE)
_UNREADABLE = re.compile(r"\D*\d[\d,./]*")
_THINKS = re.compile(r"\s*<think>")
_THOUGHT = "</think>"
_FINAL_LINE = re.compile(r"####[ \t]+(\S.*)")


@dataclass(frozen=True)
class Parsed:
    """What `parse_answer` found.

    `value` is the shortest exact decimal ("1000", "-0.5") or a fraction ("1/3"), None where no number was found;
    `branch` says which rule found it; `leak` whether a leak marker follows the answer and `cut` where it starts
    (the length of the text if there is none); `format_compliant` whether the text ends with exactly one line
    `#### <number>` and no leak.
    """

    value: str | None
    branch: Branch
    leak: bool
    format_compliant: bool
    cut: int

    @property
    def fraction(self) -> Fraction | None:
        """The exact value; two answers are equal where their fractions are."""
        return None if self.value is None else Fraction(self.value)


def parse_answer(text: str) -> Parsed:
    """Read the answer out of a completion `text` (without its prompt); see the module for the rules."""
    start = _thinking_end(text)
    cut = start + leak_start(text[start:])
    leak = cut < len(text)
    kept = clean(text[start:cut])
    value, branch = _final_answer(kept) or _phrase(kept) or _last_number(kept) or _NOTHING
    return Parsed(
        value=None if value is None else number_text(value),
        branch=branch,
        leak=leak,
        format_compliant=not leak and value is not None and _is_compliant(text[start:], value),
        cut=cut,
    )


def _thinking_end(text: str) -> int:
    """Index after the thinking with which `text` begins, 0 where it begins with none."""
    before, mark, _ = text.partition(_THOUGHT)
    if _THINKS.match(text):
        return len(before) + len(mark)
    if not mark or _final_answer(clean(before[: leak_start(before)])):
        return 0
    return len(before) + len(mark)


def _final_answer(text: str) -> Found | None:
    headings = 0
    for found in _FINAL.finditer(text):
        if found["tag"] is not None:
            start = next_number(text, found.start("tag"), found.end("tag"))
            if start is not None:
                return _found(read_answer(text[: found.end("tag")], start), "answer_tag")
            continue
        line = found if found["hash"].strip() else _NEXT_LINE.match(text, found.end())
        group = "hash" if line is found else 1
        if line is None:
            continue
        lead = _LEAD.match(line[group])
        start = lead.end() if lead else 0
        ordinal = _ORDINAL.match(line[group], start)
        if ordinal and int(ordinal[1]) == headings + 1:
            headings += 1
        elif starts_number(line[group], start):
            branch: Branch = "answer_tag" if _TAG.search(line[group]) else "hash"
            return _found(read_answer(line[group], start), branch)
    return None


def _found(value: Fraction | None, branch: Branch) -> Found:
    return _NOTHING if value is None else (value, branch)


def _phrase(text: str) -> Found | None:
    for found in reversed(list(_PHRASE.finditer(text))):
        start = next_number(text, found.end(), found.end() + _PHRASE_GAP + 1)
        value = None if start is None else read_answer(text, start)
        if value is not None:
            return value, "phrase"
    return None


def _last_number(text: str) -> Found | None:
    last = last_reference = None
    position = 0
    while (start := next_number(text, position, len(text))) is not None:
        got = number_at(text, start)
        if got is None:
            unreadable = _UNREADABLE.match(text, start)
            position = unreadable.end() if unreadable else len(text)
            continue
        if _REFERENCE.search(text[max(0, start - 16) : start]):
            last_reference = got[0]
        else:
            last = got[0]
        position = got[1]
    value = last_reference if last is None else last
    return None if value is None else (value, "last_number")


def _is_compliant(text: str, value: Fraction) -> bool:
    """Whether the last line is `#### <value>` and no other line gives a final answer."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    finals = [found[1] if (found := _FINAL_LINE.fullmatch(line)) else "" for line in lines]
    numbers = [None if _ORDINAL.match(final) else normalise_number(final) for final in finals]
    return numbers[-1] == value and not any(number is not None for number in numbers[:-1])

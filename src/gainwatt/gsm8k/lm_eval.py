r"""The two answer filters of lm-evaluation-harness, computed beside our own score.

Source: EleutherAI/lm-evaluation-harness, `lm_eval/tasks/gsm8k/gsm8k.yaml` (task version 3.0): the patterns of the
filters `strict-match` and `flexible-extract` and the list `regexes_to_ignore` of its exact match. They are kept as
they are, so that numbers compare with published ones; they score some correct answers as wrong ("$18 every day..."
is read as "..", "$18.00" as "18.00", "18 dollars, as shown in step 2" as "2"). The harness also ends generation at
"Question:", "</s>" and "<|im_end|>"; that belongs to generation and is not repeated here.
"""

from __future__ import annotations

import re

INVALID = "[invalid]"

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = (re.compile(r","), re.compile(r"\$"), re.compile(r"(?s).*#### "), re.compile(r"\.$"))


def strict_extract(text: str) -> str:
    """The first number right after "#### ", "[invalid]" if there is none."""
    found = _STRICT.search(text)
    return found[1] if found else INVALID


def flexible_extract(text: str) -> str:
    """The last run of digits, dots, commas and dollar signs (two or more), or integer; "[invalid]" if none."""
    found = [match[0] for match in _FLEXIBLE.finditer(text)]
    return found[-1] if found else INVALID


def exact_match(prediction: str, gold: str) -> bool:
    """Compare as strings without case, commas, dollar signs, a final dot and all up to the last "#### "."""
    return _without_ignored(prediction) == _without_ignored(gold)


def _without_ignored(text: str) -> str:
    for pattern in _IGNORED:
        text = pattern.sub("", text)
    return text.lower()

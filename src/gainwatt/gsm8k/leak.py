"""Where a completion stops answering and starts a new prompt.

After the answer a small model may run on with another problem, a turn of dialogue or text of its training data; a
reader that takes the last number would then score the wrong problem. So the text is cut at the first such marker,
before anything is parsed.
"""

from __future__ import annotations

import re

MARKERS = (
    "Human:",
    "Assistant:",
    "Problem:",
    "Question:",
    "Solve the math problem",
    "</div>",
    "You are given",
    "Write a program",
    "takes the … as input",
    "Return the",
    "Select the correct answer",
    "Assume where necessary",
    "How likely is it",
    "If alligators",
)

# "Problem 2:" and "Question #3:" open a new problem as well as "Problem:" does.
_SPECIAL = {
    "Problem:": r"Problem(?: #?\d{1,3})?:",
    "Question:": r"Question(?: #?\d{1,3})?:",
    "takes the … as input": r"takes the [^\n]{0,160}? as input",
}
_LEAK = re.compile("|".join(_SPECIAL.get(marker, re.escape(marker)) for marker in MARKERS))
_DIGIT = re.compile(r"\d")


def leak_start(text: str) -> int:
    """Index of the first leak marker in `text`, len(text) if there is none.

    Markers are matched with their capital letters ("the problem: 16 - 3" is no leak). A marker with no digit
    before it is no leak either: there is no answer yet that it could follow, the model repeats the problem first.
    """
    digit = _DIGIT.search(text)
    marker = _LEAK.search(text, digit.start()) if digit else None
    return marker.start() if marker else len(text)

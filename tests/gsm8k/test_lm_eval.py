"""lm-eval's two filters: known values, and a comparison with its own code where it is installed."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from gainwatt.gsm8k.lm_eval import INVALID, exact_match, flexible_extract, strict_extract

PIECES = [
    "####", "#### ", "####  ", " ", "\n", "\n\n", "$", "-", "−", ".", ",", "...", "%", "18", "7", "1,080", "2,125",
    "0.50", ".5", "-3", "1/2", "1e3", "$18.00", "$1,000.", "eggs", "The answer is ", "Answer: ", "so ", "= ",
    "<<9*2=18>>", "Question:", "step 2", "\\boxed{", "}", "１８", "(", ")", ":", "A", "\t", "\r\n", "$$", "--5",
    "#", "5.", ",,", "18th",
]  # fmt: skip
GOLDS = ["18", "7", "1080", "1,080", "-3", "0.5", "2,125", "x #### 18", "$18", "18."]


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("#### 18", "18", "18"),
        ("#### 1\n#### 2", "1", "2"),
        ("####18", INVALID, "18"),
        ("#### $18", INVALID, "$18"),
        ("#### -1,080.", "-1,080.", "-1,080."),
        ("She makes $18 every day...", INVALID, "..."),
        ("18 dollars, as shown in step 2", INVALID, "2"),
        ("$18.00", INVALID, "$18.00"),
        ("none", INVALID, INVALID),
        ("", INVALID, INVALID),
    ],
)
def test_extracts(text, strict, flexible):
    assert strict_extract(text) == strict
    assert flexible_extract(text) == flexible


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("18", "18", True),
        ("$1,080", "1080", True),
        ("18.", "18", True),
        ("18.00", "18", False),
        (".5", "0.5", False),
        ("18", "9*2=18\n#### 18", True),
        (INVALID, "18", False),
    ],
)
def test_exact_match(prediction, gold, expected):
    assert exact_match(prediction, gold) is expected


@pytest.mark.lm_eval
def test_agrees_with_lm_eval_on_generated_texts(lm_eval_python):
    rng = random.Random(20210)
    golds = [rng.choice(GOLDS) for _ in range(2000)]
    texts = ["".join(rng.choices(PIECES, k=rng.randint(0, 14))) for _ in golds]
    for i in range(0, 2000, 2):  # every other text gives the right answer somewhere, in one way or another
        texts[i] += (
            rng.choice(["#### ", "\n#### ", "The answer is ", " $"]) + golds[i] + rng.choice(["", ".", "\n", " A"])
        )
    done = subprocess.run(
        [lm_eval_python, Path(__file__).with_name("lm_eval_reference.py")],
        input=json.dumps({"texts": texts, "golds": golds}), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout)["filters"]
    ours = {"strict-match": strict_extract, "flexible-extract": flexible_extract}
    assert set(theirs) == set(ours)
    for name, rows in theirs.items():
        assert len(rows) == 2000
        assert 200 < sum(match for _, match in rows) < 1800  # both outcomes are common enough to tell
        for text, gold, (extract, match) in zip(texts, golds, rows, strict=True):
            assert ours[name](text) == extract, text
            assert exact_match(extract, gold) is match, (extract, gold)

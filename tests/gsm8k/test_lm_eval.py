"""lm-eval's two filters: known values, and a comparison with its own code where it is installed."""

from __future__ import annotations

import random
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
def test_agrees_with_lm_eval_on_generated_texts():
    package = pytest.importorskip("lm_eval")
    yaml = pytest.importorskip("yaml")
    metrics = pytest.importorskip("lm_eval.api.metrics")
    extraction = pytest.importorskip("lm_eval.filters.extraction")
    task = yaml.safe_load((Path(package.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text("utf-8"))
    metric = {key: task["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    ours = {"strict-match": strict_extract, "flexible-extract": flexible_extract}
    rng = random.Random(20210)
    texts = ["".join(rng.choices(PIECES, k=rng.randint(0, 14))) for _ in range(2000)]
    golds = [rng.choice(GOLDS) for _ in texts]
    for entry in task["filter_list"]:
        options = {key: value for key, value in entry["filter"][0].items() if key != "function"}
        theirs = extraction.RegexFilter(**options).apply([[text] for text in texts], [{} for _ in texts])
        for text, gold, (extract,) in zip(texts, golds, theirs, strict=True):
            assert ours[entry["name"]](text) == extract, text
            match = metrics.exact_match_fn(predictions=[extract], references=[gold], **metric)["exact_match"]
            assert exact_match(extract, gold) == bool(match), (extract, gold)

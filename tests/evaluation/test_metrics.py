"""Rows per item and the metrics of a cell."""

from __future__ import annotations

import pytest

from factories import items
from gainwatt.engines.base import Completion
from gainwatt.errors import InputError
from gainwatt.evaluation.metrics import BRANCHES, item_rows, summarize
from gainwatt.record import text_sha256

TEXTS = ("0 + 2 = 2\n#### 2", "The answer is 99.", "I think 4 it is", "no idea")


@pytest.fixture
def rows():
    answers = {
        i: Completion(i, text, 10 * (i + 1), "length" if i == 3 else "stop", 0.5, 2) for i, text in enumerate(TEXTS)
    }
    return item_rows(items(4), answers, {i: f"prompt {i}" for i in range(4)})


def test_rows(rows):
    assert [row["correct"] for row in rows] == [True, False, True, False]
    assert [row["answer"] for row in rows] == ["2", "99", "4", None]
    assert rows[0]["branch"] == "hash"
    assert rows[3]["branch"] == "none"
    assert rows[1]["prompt_sha256"] == text_sha256("prompt 1")
    assert rows[2]["tokens"] == 30
    assert {row["branch"] for row in rows} <= set(BRANCHES)


def test_metrics(rows):
    metrics = summarize(rows)
    assert metrics["num_examples"] == 4
    assert metrics["correct"] == 2
    assert metrics["accuracy"] == 0.5
    assert metrics["parse_rate"] == 0.75
    assert metrics["format_compliance_rate"] == 0.25
    assert metrics["hit_max_new_tokens_rate"] == 0.25
    assert metrics["ended_with_eos_rate"] == 0.75
    assert metrics["completion_tokens_mean"] == 25
    assert metrics["generated_tokens"] == 100
    assert metrics["completion_chars_mean"] == sum(map(len, TEXTS)) / 4
    assert metrics["accuracy_strict_match"] == 0.25
    assert (metrics["strict_match_invalid_rate"], metrics["flexible_extract_invalid_rate"]) == (0.75, 0.25)
    assert sum(metrics[f"branch_{branch}_rate"] for branch in BRANCHES) == pytest.approx(1)


def test_a_missing_answer_is_named():
    with pytest.raises(InputError, match="item 0 has no completion"):
        item_rows(items(1), {}, {0: "p"})

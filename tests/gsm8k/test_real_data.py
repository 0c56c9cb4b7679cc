"""The parser on all reference solutions of GSM8K itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.score import reward, score


@pytest.mark.gsm8k
@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_every_reference_solution_is_read_back(request, split, count):
    folder = request.config.getoption("--gsm8k-dir", default=None)
    if folder is None:
        pytest.skip("give --gsm8k-dir with train.jsonl and test.jsonl")
    items = read_items(Path(folder) / f"{split}.jsonl")
    assert len(items) == count
    for item in items:
        got = score(item.solution, item.gold)
        assert (got.correct, got.strict_match, got.flexible_match) == (True, True, True), item.solution
        assert (got.parsed.branch, got.parsed.leak, got.parsed.format_compliant) == ("hash", False, True)
        assert reward(item.solution, item.gold) == 1.0

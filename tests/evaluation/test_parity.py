"""Two engines on the same items, item by item; other items or another checkpoint are no comparison."""

from __future__ import annotations

import pytest

from factories import run_script
from gainwatt.errors import InputError, RecordError
from gainwatt.evaluation.parity import compare_items, note_parity, summary


def item(index, text, *, correct=True, prompt=None):
    answer = text.rpartition(" ")[2]
    return {
        "index": index, "prompt_sha256": prompt or f"p{index}", "text": text, "answer": answer, "correct": correct,
        "tokens": len(text), "finish_reason": "stop",
    }  # fmt: skip


LEFT = [item(0, "it is 7"), item(1, "it is 8", correct=False), item(2, "9"), item(3, "a 1")]
RIGHT = [item(0, "it is 7"), item(1, "it was 9"), item(2, "9 and 3", correct=False), item(3, "b 1")]


def test_rows_and_summary():
    rows = compare_items(LEFT, list(reversed(RIGHT)))
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["first_difference"] for row in rows] == [None, 3, 1, 0]
    assert [row["same_answer"] for row in rows] == [True, False, False, True]
    found = summary(rows)
    assert found == {
        "items": 4, "same_text_share": 0.25, "same_answer_share": 0.5, "same_score_share": 0.5, "left_accuracy": 0.75,
        "right_accuracy": 0.75, "only_right_correct": 1, "only_left_correct": 1, "p_value": 1.0,
    }  # fmt: skip


def test_a_prompt_that_stands_twice_is_paired_in_order():
    left = [item(0, "a", prompt="p"), item(1, "b", prompt="p")]
    rows = compare_items(left, [item(5, "a", prompt="p"), item(9, "b", prompt="p")])
    assert all(row["same_text"] for row in rows)


@pytest.mark.parametrize("right", [RIGHT[:3], [*RIGHT[:3], item(3, "b", prompt="other")]])
def test_other_items_are_refused(right):
    with pytest.raises(InputError, match=r"not asked the same: 4 and [34] prompts, 3 in common"):
        compare_items(LEFT, right)


class FakeJob:
    def __init__(self):
        self.metrics, self.reasons, self.inputs = {}, {}, {"checkpoint": {"sha256": "c"}}

    def null(self, name, reason):
        self.metrics[name], self.reasons[name] = None, reason


def test_without_a_record_the_metrics_say_so(tmp_path):
    job = FakeJob()
    note_parity(job, tmp_path / "nothing.json", LEFT)
    assert job.metrics["parity_same_text_share"] is None
    assert "does not exist" in job.reasons["parity_p_value"]


def test_the_damaged_record_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{", "utf-8")
    done = run_script("compare_engines", tmp_path / "a.json", tmp_path / "a.json")
    assert done.returncode == RecordError.exit_code
    assert "a.json" in done.stderr

"""The summary shows what was measured and what was not."""

from __future__ import annotations

from factories import write_evaluation
from gainwatt.study import Cell
from gainwatt.tables import accuracy, cost
from gainwatt.tables.results import Results
from gainwatt.tables.summary import summary


def text_of(results):
    return summary(
        results,
        {
            "accuracy_matrix": accuracy.accuracy_matrix(results),
            "gains": accuracy.gains(results),
            "gain_survival": accuracy.survivals(results),
            "cost_per_correct": cost.per_correct_answer(results),
        },
    )


def test_whole_study(results):
    text = text_of(results)
    assert "Not measured yet" not in text
    assert text.splitlines()[2].startswith(("**It depends on the scheme: the gain ", "**Undecided: ", "**Yes: "))
    assert "At fp32 the base model answers" in text
    assert "| variant | fp32 | bnb-nf4 | awq-w4g128 |" in text
    row = accuracy.accuracy_matrix(results)[0]
    low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
    assert f"{100 * row['accuracy']:.1f} [{low:.1f}, {high:.1f}]" in text
    assert "n = 40 items" in text
    assert "(margin 2 points)" in text
    assert "grpo-s0+grpo-s1" in text
    assert "95 % interval" in text


def test_unfinished_study(study, layout):
    write_evaluation(study, Cell("base", "fp32"), metered=False)
    write_evaluation(study, Cell("base", "bnb-nf4"), status="oom", reason="x", metrics={}, outputs={})
    text = text_of(Results.load(study, layout))
    assert "**Not measured yet:** base.awq-w4g128, grpo-s0.fp32" in text
    assert "| oom |" in text
    assert "| missing |" in text
    assert "No scheme has all four cells" in text
    assert "Null joules: " in text


def test_nothing_but_failures(study, layout):
    write_evaluation(study, Cell("base", "fp32"), status="unavailable", reason="no GPU", metrics={}, outputs={})
    assert "| unavailable |" in text_of(Results.load(study, layout))

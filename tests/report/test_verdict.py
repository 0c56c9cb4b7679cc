"""The answer in words."""

from __future__ import annotations

import pytest

from gainwatt.report.verdict import answer


def survival(scheme, verdict, seeds=1, change=-0.032, **changed):
    return {
        "scheme": scheme, "variants": "+".join(f"grpo-s{i}" for i in range(seeds)), "items": 1000,
        "training_seeds": seeds, "delta_reference": 0.19, "delta_quantized": 0.19 + change, "gain_survival": change,
        "gain_survival_low": change - 0.026, "gain_survival_high": change + 0.027, "margin": 0.03, "verdict": verdict,
        "items_needed_within_margin": None, "why": "x at -3.0",
    } | changed  # fmt: skip


MATRIX = [{"variant": "base", "precision": "fp32", "accuracy": 0.364}]
GAINS = [
    {"from": "base.fp32", "to": f"grpo-s{i}.fp32", "difference": 0.18, "difference_low": 0.15, "difference_high": 0.21}
    for i in range(2)
]


def test_one_scheme(study):
    found = answer(study, [survival("bnb-nf4", "reduced")], MATRIX, GAINS)
    assert found.headline == "Not in full: the gain is reduced under bnb-nf4."
    assert found.sentences[0] == (
        "At fp32 the base model answers 36.4 % of the items, the trained one 55.4 %: a gain of +19.0 points "
        "[+15.0, +21.0]."
    )
    assert found.schemes[0].sentence == (
        "The gain is +15.8 points instead of +19.0: a change of −3.2 points (95 % interval [−5.8, −0.5]), judged "
        "against a margin of 3 points."
    )
    assert found.schemes[0].why == "x at −3.0"


def test_all_seeds_together_count(study):
    rows = [survival("bnb-nf4", "survives"), survival("bnb-nf4", "erased", seeds=2)]
    found = answer(study, rows, MATRIX, GAINS)
    assert found.headline == "No: the gain is erased under bnb-nf4."
    assert "(mean of 2 training seeds: +18.0 [+15.0, +21.0] and +18.0 [+15.0, +21.0])" in found.sentences[0]


def test_schemes_that_differ(study):
    rows = [survival("a", "undecided"), survival("b", "survives"), survival("c", "survives")]
    found = answer(study, rows, MATRIX, [])
    assert found.headline == ("It depends on the scheme: the gain survives under b and c, and is undecided under a.")
    assert "There is no verdict on bnb-nf4" in found.sentences[-1]


@pytest.mark.parametrize(
    ("verdict", "start"),
    [("survives", "Yes: the gain survives under a."), ("undecided", "Undecided: these items do not settle it for a.")],
)
def test_other_single_verdicts(study, verdict, start):
    assert answer(study, [survival("a", verdict)], MATRIX, []).headline == start


def test_undecided_says_how_many_items_would_do(study):
    row = survival("a", "undecided", items_needed_within_margin=4321)
    assert answer(study, [row], MATRIX, []).schemes[0].sentence.endswith("About 4,321 items would settle it.")
    row["items_needed_within_margin"] = 900
    assert "would settle" not in answer(study, [row], MATRIX, []).schemes[0].sentence


def test_nothing_measured_and_nothing_to_compare(study):
    assert answer(study, [], [], []).headline == "Not answered: no cell has been measured."
    found = answer(study, [], MATRIX, [])
    assert found.headline.startswith("Not answered yet: no scheme has all four cells")
    assert found.sentences == ["At fp32 the base model answers 36.4 % of the items."]

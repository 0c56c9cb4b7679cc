"""The answer in plain sentences, with its numbers: what a reader wants to know first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.report.formats import in_prose, interval, is_number, number, percent, points
from gainwatt.study import BASE, Study

Row = dict[str, Any]
_MEANING = {
    "survives": "survives",
    "reduced": "is reduced",
    "erased": "is erased",
    "undecided": "is undecided",
}


@dataclass(frozen=True)
class SchemeVerdict:
    """The verdict on one scheme: the word, what it rests on, and why."""

    scheme: str
    verdict: str
    gain: str
    survival: str
    interval: str
    sentence: str
    why: str


@dataclass(frozen=True)
class Answer:
    """The answer of a study: a short one, the sentences behind it, one verdict per scheme; and the question."""

    headline: str
    sentences: list[str]
    schemes: list[SchemeVerdict]
    question: str = "Does the accuracy that GRPO gained survive quantization?"


def answer(study: Study, survivals: Sequence[Row], matrix: Sequence[Row], gains: Sequence[Row]) -> Answer:
    """The answer from the rows of the tables gain_survival, accuracy_matrix and gains."""
    if not study.matrix:
        profiles = "This study profiles: it has no matrix of variants and schemes."
        return Answer(profiles, [], [], "How fast, and for how many joules?")
    main = _main_rows(survivals)
    verdicts = [_scheme(row, study) for row in main]
    sentences = [_gain(study, main, matrix, gains), _items(main, study), _without(study, verdicts)]
    sentences = [sentence for sentence in sentences if sentence]
    return Answer(_headline(verdicts, matrix), sentences, verdicts)


def _main_rows(survivals: Sequence[Row]) -> list[Row]:
    """The row of each scheme that takes most training seeds together."""
    found: dict[str, Row] = {}
    for row in survivals:
        name = row["scheme"]
        if name not in found or (row.get("training_seeds") or 0) > (found[name].get("training_seeds") or 0):
            found[name] = row
    return list(found.values())


def _scheme(row: Row, study: Study) -> SchemeVerdict:
    change = interval(row["gain_survival_low"], row["gain_survival_high"])
    confidence = f"{100 * study.statistics.confidence:g} % interval"
    sentence = (
        f"The gain is {points(row['delta_quantized'])} points instead of {points(row['delta_reference'])}: a change of "
        f"{points(row['gain_survival'])} points ({confidence} {change}), judged against a margin of "
        f"{number(100 * row['margin'], 3)} points."
    )
    needed = row.get("items_needed_within_margin")
    if row["verdict"] == "undecided" and is_number(needed) and needed > row["items"]:
        sentence += f" About {number(int(needed))} items would settle it."
    return SchemeVerdict(
        row["scheme"], row["verdict"], points(row["delta_quantized"]), points(row["gain_survival"]), change, sentence,
        in_prose(row.get("why") or ""),
    )  # fmt: skip


def _headline(verdicts: Sequence[SchemeVerdict], matrix: Sequence[Row]) -> str:
    if not verdicts:
        if not any(row.get("accuracy") is not None for row in matrix):
            return "Not answered: no cell has been measured."
        return "Not answered yet: no scheme has all four cells (base and trained, reference and quantized)."
    by_word: dict[str, list[str]] = {}
    for found in sorted(verdicts, key=lambda found: list(_MEANING).index(found.verdict)):
        by_word.setdefault(found.verdict, []).append(found.scheme)
    if len(by_word) == 1:
        word, names = next(iter(by_word.items()))
        start = {"survives": "Yes: ", "reduced": "Not in full: ", "erased": "No: ", "undecided": "Undecided: "}[word]
        if word == "undecided":
            return f"{start}these items do not settle it for {_join(names)}."
        return f"{start}the gain {_MEANING[word]} under {_join(names)}."
    parts = [f"{_MEANING.get(word, word)} under {_join(names)}" for word, names in by_word.items()]
    return f"It depends on the scheme: the gain {_join(parts, ', and ')}."


def _gain(study: Study, main: Sequence[Row], matrix: Sequence[Row], gains: Sequence[Row]) -> str:
    reference = study.quantize.reference
    base = next((r for r in matrix if r["variant"] == BASE and r["precision"] == reference), None)
    if base is None or not is_number(base.get("accuracy")):
        return ""
    start = f"At {reference} the base model answers {percent(base['accuracy'])} % of the items"
    if not main:
        return start + "."
    gain, seeds = main[0]["delta_reference"], int(main[0]["training_seeds"])
    text = f"{start}, the trained one {percent(base['accuracy'] + gain)} %: a gain of {points(gain)} points"
    of_seed = [
        f"{points(r['difference'])} {interval(r['difference_low'], r['difference_high'])}"
        for r in gains
        if r["from"] == f"{BASE}.{reference}" and r["to"].rpartition(".")[0] in main[0]["variants"].split("+")
    ]
    if seeds > 1:
        text += f" (mean of {seeds} training seeds"
        return text + (f": {_join(of_seed, ' and ')})." if of_seed and seeds <= 4 else ").")
    return text + (f" {of_seed[0].partition(' ')[2]}." if of_seed else ".")


def _items(main: Sequence[Row], study: Study) -> str:
    if not main:
        return ""
    return (
        f"Each number rests on the same {number(int(main[0]['items']))} items; the margin of "
        f"{number(100 * study.statistics.survival_margin, 3)} points is the study's own and was set in its settings, "
        "not read off the result."
    )


def _without(study: Study, verdicts: Sequence[SchemeVerdict]) -> str:
    judged = {found.scheme for found in verdicts}
    others = [name for name in study.quantize.schemes if name not in judged]
    if not others or not verdicts:
        return ""
    return f"There is no verdict on {_join(others)}: not all four cells have been measured."


def _join(names: Sequence[str], last: str = " and ") -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + last + names[-1]

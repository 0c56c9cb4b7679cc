"""Are the answers of a cell what its metrics say, and is there enough in them to call the share an accuracy?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number, off, whole_study
from gainwatt.validation.findings import ERROR, WARNING, Severity

_STAGE = ("evaluate_gsm8k",)
_AGAIN = "run the rule evaluate_gsm8k of this cell again"
_EXACT = 1e-9
# A difference in these changes the text, so that they must be equal over the matrix. The others (kernels, the type that
# a scheme computes in, a batch halved for lack of memory) may belong to the scheme, and must be equal within it.
_DECODING = {
    "engine", "do_sample", "num_beams", "temperature", "top_p", "top_k", "min_p", "seed", "max_new_tokens",
    "repetition_penalty", "presence_penalty", "frequency_penalty", "stop_token_ids", "stop", "ignore_eos",
}  # fmt: skip


@each_record(WARNING, source="validation.parse_rate_warning and validation.parse_rate_error", stages=_STAGE)
def parse_rate(study: Collected, record: Record) -> Iterator[Problem]:
    """Nearly every answer holds a number; a low share is an error, since accuracy then measures the format."""
    rate, limits = number(record["metrics"].get("parse_rate")), study.study.validation
    if rate is not None and rate < limits.parse_rate_warning:
        severity: Severity = ERROR if rate < limits.parse_rate_error else WARNING
        hint = "read some answers (column text of the items file); check the chat template and the prompt"
        yield Problem(f"{100 * rate:.1f} % of the answers hold a number", hint, severity)


@each_record(WARNING, source="validation.hit_max_warning and validation.hit_max_error", stages=_STAGE)
def hit_max_rate(study: Collected, record: Record) -> Iterator[Problem]:
    """Few answers are cut by the length limit; a high share is an error."""
    rate, limits = number(record["metrics"].get("hit_max_new_tokens_rate")), study.study.validation
    if rate is not None and rate > limits.hit_max_warning:
        severity: Severity = ERROR if rate > limits.hit_max_error else WARNING
        hint = "raise evaluate.max_new_tokens, or look why the model does not stop (stop tokens, chat template)"
        yield Problem(f"{100 * rate:.1f} % of the answers were cut by evaluate.max_new_tokens", hint, severity)


@each_record(ERROR, source="exact arithmetic", stages=_STAGE)
def recomputed(study: Collected, record: Record) -> Iterator[Problem]:
    """Accuracy, parse rate, cut rate and tokens computed from the items equal those of the record."""
    facts, metrics = study.items(record), record["metrics"]
    if facts is None or facts.n == 0:
        return
    n = facts.n
    pairs: list[tuple[str, float | None]] = [("num_examples", n), ("correct", facts.correct)]
    pairs += [("generated_tokens", facts.tokens)]
    for name, count in (("accuracy", facts.correct), ("parse_rate", facts.parsed)):
        pairs.append((name, None if count is None else count / n))
    pairs.append(("hit_max_new_tokens_rate", None if facts.cut is None else facts.cut / n))
    for name, wanted in pairs:
        value = number(metrics.get(name))
        if wanted is not None and value is not None and off(value, wanted) > _EXACT:
            yield Problem(f"metrics.{name} is {value:g}, and the items give {wanted:g}", _AGAIN)


@whole_study(ERROR, source="the data that prepare_data wrote, and the majority of the cells")
def item_count(study: Collected) -> Iterator[Problem]:
    """Every cell answered as many items as the test split holds, and all cells the same number."""
    prepared = study.at("prepare_data", "data")
    there = None if prepared is None else number(prepared["metrics"].get("test_items"))
    counts = {record["file"]: number(record["metrics"].get("num_examples")) for record in study.of(_STAGE[0])}
    known = Counter(n for n in counts.values() if n is not None)
    if not known:
        return
    wanted = there if there is not None else max(known, key=lambda n: (known[n], n))
    source = "the test split holds" if there is not None else "the other cells have"
    for file, n in counts.items():
        if n is not None and n != wanted:
            yield Problem(f"it has {n:g} items, {source} {wanted:g}", _AGAIN, file=file)


@whole_study(ERROR, source="SHA-256 of every prompt: paired tests need the same questions")
def same_questions(study: Collected) -> Iterator[Problem]:
    """All cells were asked the same questions in the same words."""
    asked: dict[str, str] = {}
    for record in study.of(_STAGE[0]):
        facts = study.items(record)
        if facts is not None and facts.questions is not None:
            asked[record["file"]] = facts.questions
    yield from _odd_ones(asked, "it was asked other questions, or in other words, than the other cells")


@whole_study(ERROR, source="one decoding for the whole matrix, one way of running for each scheme")
def same_generation(study: Collected) -> Iterator[Problem]:
    """The decoding in force is equal over the matrix (else an error), all else within a scheme (else a warning)."""
    effective: dict[str, dict[str, Any]] = {}
    by_scheme: dict[str, list[str]] = {}
    for record in study.of(_STAGE[0]):
        found = record["settings"].get("effective")
        if isinstance(found, dict):
            effective[record["file"]] = found
            by_scheme.setdefault(str(record["cell"].get("scheme")), []).append(record["file"])
    for name in sorted({key for found in effective.values() for key in found}):
        decoding = name in _DECODING
        for files in [list(effective)] if decoding else list(by_scheme.values()):
            values = {file: repr(effective[file].get(name, "not recorded")) for file in files}
            text = f"its effective {name} is {{value}}, the other cells have {{usual}}"
            yield from _odd_ones(values, text, ERROR if decoding else WARNING)


def _odd_ones(values: dict[str, str], text: str, severity: Severity = ERROR) -> Iterator[Problem]:
    """A problem for every file whose value is not the usual one."""
    counted = Counter(values.values())
    usual = max(counted, key=lambda value: (counted[value], value)) if counted else ""
    for file, value in values.items():
        if value != usual:
            yield Problem(text.format(value=value, usual=usual), _AGAIN, severity, file)

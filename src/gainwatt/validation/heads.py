"""Scores of attention heads and pruning curves: whole tables, controls that are controls, weights brought back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gainwatt.heads.prune import BASELINE, count
from gainwatt.record import Record
from gainwatt.validation.collected import Collected, brief, sha_of
from gainwatt.validation.expectation import Problem, each_record, listed
from gainwatt.validation.findings import ERROR, INFO, WARNING

SCORES, PRUNING = "score_heads", "prune_heads"
_AGAIN = "run the rule that makes this record again"
_CONTRASTS = ("general", "matched", "split_half")
_LENGTHS = (0.5, 2.0)
_CLOSE = 1e-9


@each_record(ERROR, source="layers × query heads of the model; 0 <= TV <= 1, 0 < p <= q <= 1", stages=(SCORES,))
def head_table(study: Collected, record: Record) -> Iterator[Problem]:
    """Every head of the model has one row of scores, and every score is one that can be."""
    rows = _table(study, record, "heads")
    if rows is None:
        yield Problem("the table of heads is missing", _AGAIN)
        return
    layers = record["settings"]["effective"]["heads_by_layer"]
    wanted = {(layer, head) for layer, heads, _, _ in layers for head in range(heads)}
    places = [(row["layer_idx"], row["head_idx"]) for row in rows]
    if set(places) != wanted or len(places) != len(wanted) or record["metrics"]["heads"] != len(wanted):
        what = f"{len(places)} rows for {len(set(places))} heads, and the model has {len(wanted)}"
        yield Problem(f"{what}; metrics.heads is {record['metrics']['heads']}", _AGAIN)
    wrong = [f"L{row['layer_idx']}H{row['head_idx']}" for row in rows if not _possible(row)]
    if wrong:
        yield Problem(f"{len(wrong)} heads have a score that cannot be: {', '.join(listed(wrong))}", _AGAIN)


def _possible(row: dict[str, Any]) -> bool:
    for name in _CONTRASTS:
        if row.get(f"tv_{name}") is None:
            continue
        p, q = row[f"p_{name}"], row[f"q_{name}"]
        if not (-_CLOSE <= row[f"tv_{name}"] <= 1 + _CLOSE and 0 < p <= q + _CLOSE and q <= 1):
            return False
    return row["tv_distance"] == row["tv_general"]


@each_record(WARNING, source="the false-discovery rate that the study declared (heads.fdr)", stages=(SCORES,))
def head_control(study: Collected, record: Record) -> Iterator[Problem]:
    """Between two halves of the reasoning prompts no more heads differ than the declared rate of false discoveries."""
    share, fdr = record["metrics"]["heads_above_null_split_half_share"], record["settings"]["heads"]["fdr"]
    if share > fdr:
        what = f"{100 * share:.1f} % of the heads differ between two halves of the reasoning prompts"
        hint = "look for prompts that repeat each other, use more of them, or another heads.seed; discoveries against "
        yield Problem(what, hint + "the other prompts are in doubt as long as this one stands")


@each_record(WARNING, source="smallest p-value of the pairs and relabellings, times the heads", stages=(SCORES,))
def head_power(study: Collected, record: Record) -> Iterator[Problem]:
    """A single head that differs could be found: there are enough pairs of prompts and relabellings for that."""
    metrics, fdr = record["metrics"], record["settings"]["heads"]["fdr"]
    for name in _CONTRASTS[:2]:
        floor = metrics.get(f"p_floor_{name}")
        if floor is not None and floor * metrics["heads"] > fdr:
            what = f"{name}: no p-value can be below {floor:.2g}, too much for one head among {metrics['heads']}"
            yield Problem(what, "give more prompts, or raise heads.permutations")


@each_record(WARNING, source="half and twice the length: a pair loses half of its longer prompt", stages=(SCORES,))
def head_lengths(study: Collected, record: Record) -> Iterator[Problem]:
    """The prompts that are compared are of similar length before they are cut to each other's."""
    for name in _CONTRASTS[:2]:
        ratio = record["metrics"].get(f"tokens_uncut_ratio_{name}")
        if ratio is not None and not _LENGTHS[0] <= ratio <= _LENGTHS[1]:
            what = f"{name}: the reasoning prompts have {ratio:.2f} times the tokens of the others"
            yield Problem(what, "much of the longer ones was cut away: give prompts of similar length")


@each_record(INFO, source="the matched control", stages=(SCORES,))
def head_style(study: Collected, record: Record) -> Iterator[Problem]:
    """Heads that differ from general prompts also differ from prompts with the same words and length."""
    metrics = record["metrics"]
    general, matched = metrics["heads_above_null_general"], metrics.get("heads_above_null_matched")
    if general and matched == 0:
        what = f"{general} heads differ from general prompts, none from prompts with the same words and length"
        yield Problem(what, "nothing to do; it may be style and vocabulary that these heads tell apart, not reasoning")


@each_record(ERROR, source="SHA-256 of every output projection before, at and after a point", stages=(PRUNING,))
def heads_restored(study: Collected, record: Record) -> Iterator[Problem]:
    """After each point of a pruning curve the weights are those before it, and at it they are not."""
    rows = _table(study, record, "points")
    if rows is None:
        yield Problem("the table of points is missing", _AGAIN)
        return
    before = rows[0]["weights_sha256_before"]
    for row in rows:
        if {row["weights_sha256_before"], row["weights_sha256_after"]} != {before}:
            yield Problem(f"{row['point']}: the weights were not brought back", _AGAIN)
        elif (row["weights_sha256_pruned"] == before) != (row["n_pruned_heads"] == 0):
            done = "nothing" if row["n_pruned_heads"] else "something"
            what = f"{row['point']}: {row['n_pruned_heads']} heads off, and {done} changed in the weights"
            yield Problem(what, _AGAIN)


@each_record(ERROR, source="share of the heads, rounded down; 0 % is none", stages=(PRUNING,))
def heads_pruned(study: Collected, record: Record) -> Iterator[Problem]:
    """As many heads are off at each point as its share says, and one point has all of them on."""
    rows = _table(study, record, "points") or []
    heads = _scored_heads(study, record)
    if [row["n_pruned_heads"] for row in rows if row["strategy"] == BASELINE] != [0]:
        yield Problem("there is not exactly one point without pruned heads", _AGAIN)
    for row in rows:
        named = len(set(row["heads"]))
        wanted = count(row["percent"], heads) if heads is not None else row["n_pruned_heads"]
        if {row["n_pruned_heads"], named} != {wanted}:
            said = f"{row['n_pruned_heads']} heads are said to be off, {named} are named"
            what = f"{row['point']}: {said}, {wanted} are due"
            yield Problem(what, _AGAIN)


@each_record(ERROR, source="SHA-256 of the checkpoint and of the record of its scores", stages=(PRUNING,))
def prune_scores(study: Collected, record: Record) -> Iterator[Problem]:
    """A pruning curve rests on the scores of its own checkpoint as they are now."""
    scores = study.at(SCORES, study.place(record)[1])
    if scores is None:
        return
    mine, theirs = sha_of(record["inputs"], "checkpoint"), sha_of(scores["inputs"], "checkpoint")
    if mine != theirs:
        what = f"the curve is of the checkpoint {brief(mine)}, the scores of {brief(theirs)}"
        yield Problem(what, _AGAIN)
    elif sha_of(record["inputs"], "scores") != study.sha256(study.layout.record(SCORES, study.place(record)[1])):
        yield Problem("the scores were made again after the curve", _AGAIN)


def _scored_heads(study: Collected, record: Record) -> int | None:
    scores = study.at(SCORES, study.place(record)[1])
    return None if scores is None or scores["status"] != "ok" else int(scores["metrics"]["heads"])


def _table(study: Collected, record: Record, name: str) -> list[dict[str, Any]] | None:
    """Rows of a table beside a record; None where it is not there."""
    from pyarrow import parquet

    path = study.sidecar(record, name)
    if path is None:
        return None
    with parquet.ParquetFile(path) as file:  # pyarrow's own errors are ValueError or OSError by inheritance
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return rows

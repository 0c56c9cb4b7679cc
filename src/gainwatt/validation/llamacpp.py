"""Do the numbers of a llama.cpp session follow from its windows, and was the engine at work while it was metered?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.energy.protocol import REPEATS_MIN, WINDOW_MIN_S
from gainwatt.llamacpp.arms import SESSION
from gainwatt.llamacpp.boundary import BOUNDARIES
from gainwatt.llamacpp.types import TYPES
from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, listed, number, off, whole_study
from gainwatt.validation.findings import ERROR, INFO, WARNING

STAGE = "profile_llamacpp"
BUSY_MIN = 0.5
"""Below this share of a window the engine did something else than the requests: the joules are not theirs."""
EMPTY_FILE_BITS = 0.8
"""A file holds scales and vocabulary beside its weights, but is never smaller than this share of its type's bits."""
_AGAIN = "run the rule that makes this record again"


def _windows(study: Collected, record: Record) -> list[dict[str, Any]]:
    """The windows and loads of an arm; none for the session, or where the table is not there."""
    from pyarrow import parquet

    path = study.sidecar(record, "windows")
    if path is None:
        return []
    with parquet.ParquetFile(os.fspath(Path(path))) as file:
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return rows


def _suites(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["suite"] for row in rows if row["suite"]))


@each_record(ERROR, source="sums over the windows; validation.consistency_tolerance", stages=(STAGE,))
def arm_numbers(study: Collected, record: Record) -> Iterator[Problem]:
    """Tokens, rates and joules of an arm are those of its windows."""
    rows, metrics = _windows(study, record), record["metrics"]
    tolerance = study.study.validation.consistency_tolerance
    for suite in _suites(rows):
        whole = [row for row in rows if row["suite"] == suite and row["kind"] == "generate"]
        sums = {name: sum(row[name] for row in whole) for name in ("generated_tokens", "seconds", "requests")}
        wanted = {"generated_tokens": sums["generated_tokens"], "windows": len(whole)}
        wanted["throughput_tok_s"] = sums["generated_tokens"] / sums["seconds"]
        joules = [row["gross_j"] for row in whole]
        if None not in joules and sums["generated_tokens"]:
            wanted["gross_j_per_ktok"] = 1e3 * sum(joules) / sums["generated_tokens"]
        for name, value in wanted.items():
            told = number(metrics.get(f"{suite}_{name}"))
            if told is None or off(told, value) > tolerance:
                yield Problem(f"{suite}_{name} is {told}, the windows give {value:.6g}", _AGAIN)


@each_record(ERROR, source="one boundary for every arm", stages=(STAGE,))
def arm_boundary(study: Collected, record: Record) -> Iterator[Problem]:
    """The joules of a window are the sum over the boundary that the study declares, whichever device did the work."""
    tolerance = study.study.validation.consistency_tolerance
    for row in _windows(study, record):
        parts = [row[f"{name}_gross_j"] for name in BOUNDARIES if row[f"{name}_gross_j"] is not None]
        declared = study.study.llamacpp.boundary if study.study.llamacpp else BOUNDARIES
        inside = [row[f"{name}_gross_j"] for name in declared if row[f"{name}_gross_j"] is not None]
        if row["gross_j"] is not None and off(row["gross_j"], sum(inside)) > tolerance:
            what = (
                f"round {row['round']}, {row['suite'] or 'load'}: {row['gross_j']:.4g} J, its devices {sum(inside):.4g}"
            )
            yield Problem(what, _AGAIN)
        if row["gross_j"] is None and not row["reason"] and not parts:
            yield Problem(f"round {row['round']}: joules are null without a reason", _AGAIN)


@each_record(ERROR, source="BUSY_MIN: the requests fill the window that was metered", stages=(STAGE,))
def arm_at_work(study: Collected, record: Record) -> Iterator[Problem]:
    """The engine was at work while it was metered, and its own counters fit into the time of the requests."""
    for row in _windows(study, record):
        if row["kind"] == "load":
            continue
        where = f"round {row['round']}, {row['suite']}, {row['kind']}"
        if row["busy_s"] < BUSY_MIN * row["seconds"]:
            what = f"{where}: requests took {row['busy_s']:.3f} s of a window of {row['seconds']:.3f} s"
            yield Problem(what, f"something else ran inside the window: {_AGAIN}")
        counted = row["prefill_s"] + row["decode_s"]
        if row["busy_s"] > row["seconds"] * 1.01 + 0.01 or counted > row["busy_s"] * 1.05 + 0.01:
            what = f"{where}: counters {counted:.3f} s, requests {row['busy_s']:.3f} s, window {row['seconds']:.3f} s"
            yield Problem(f"{what} do not lie inside each other", f"a clock was wrong: {_AGAIN}")


@each_record(ERROR, source="llama.cpp's counters: each answer has its first token from the prefill", stages=(STAGE,))
def arm_tokens(study: Collected, record: Record) -> Iterator[Problem]:
    """Generated tokens are the decoded ones and one for each request; prefill windows have none."""
    for row in _windows(study, record):
        wanted = {"generate": (row.get("decoded_tokens") or 0) + (row.get("requests") or 0)}.get(row["kind"], 0)
        if row["kind"] != "load" and row["generated_tokens"] != wanted:
            what = f"round {row['round']}, {row['suite']}, {row['kind']}: {row['generated_tokens']} generated tokens"
            yield Problem(f"{what}, the counters give {wanted}", _AGAIN)


@each_record(ERROR, source="bits of the type by its block", stages=("fetch_gguf",))
def gguf_size(study: Collected, record: Record) -> Iterator[Problem]:
    """No file is smaller than the weights that it is said to hold, and a 4-bit file has not the size of 8 bits."""
    for name, entry in (record["settings"].get("files") or {}).items():
        size, weights = number(entry.get("bytes")), number(entry.get("parameters"))
        if name not in TYPES or size is None or not weights:
            continue
        bits, wanted = 8 * size / weights, TYPES[name].bits
        if bits < EMPTY_FILE_BITS * wanted:
            yield Problem(f"the file of {name} has {bits:.2f} bits per weight, the type has {wanted:g}", _AGAIN)


@whole_study(ERROR, source="one file for each type")
def gguf_files_differ(study: Collected) -> Iterator[Problem]:
    """Two types are not the same file."""
    for record in study.of("fetch_gguf"):
        files = [(n, e.get("sha256")) for n, e in (record["settings"].get("files") or {}).items() if e.get("sha256")]
        for (first, one), (second, other) in itertools.combinations(files, 2):
            if one == other:
                yield Problem(f"{first} and {second} are the same file", "name the right files", file=record["file"])


@each_record(INFO, source="the protocol: windows of 5 s, at least 5 of them", stages=(STAGE,))
def arm_protocol(study: Collected, record: Record) -> Iterator[Problem]:
    """Windows are as long and as many as the measuring protocol asks for."""
    rows = [row for row in _windows(study, record) if row["kind"] == "generate"]
    short = [row for row in rows if row["seconds"] < WINDOW_MIN_S]
    if short:
        what = f"{len(short)} of {len(rows)} windows are shorter than {WINDOW_MIN_S:g} s"
        yield Problem(what, "give llamacpp.window_s = 5 or more for numbers to be published")
    rounds = len({row["round"] for row in rows})
    if rows and rounds < REPEATS_MIN:
        what = f"{rounds} window(s) per suite; the protocol asks for {REPEATS_MIN}"
        yield Problem(what, "raise llamacpp.rounds")


@whole_study(WARNING, source="arms of one session")
def one_session(study: Collected) -> Iterator[Problem]:
    """The arms that are compared ran in the session whose record lies beside them."""
    session = study.at(STAGE, SESSION)
    if session is None:
        return
    wanted = {name: session["inputs"].get(name) for name in ("prompts", "files")}
    ran = set(session["settings"].get("arms") or [])
    for record in study.of(STAGE, ok=False):
        name = study.place(record)[1]
        if name == SESSION:
            continue
        if name not in ran or any(record["inputs"].get(key) != value for key, value in wanted.items()):
            what = f"the arm {name} is not of this session, whose arms are {', '.join(listed(sorted(ran), 5))}"
            yield Problem(
                what, "run the whole session again: arms of several sessions are not paired", file=record["file"]
            )

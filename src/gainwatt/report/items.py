"""The page of items: what each of two cells answered to the same question."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.report.material import Material
from gainwatt.report.page import asset, embedded_json, render
from gainwatt.study import BASE, Cell, Study, evaluation_cells, trained_variants, variants
from gainwatt.tables.results import read_sidecar

MAX_CELLS = 60
MAX_BYTES = 12_000_000
"""Of all embedded answers together; longer answers are cut until they fit."""
PLAIN_BYTES = 60_000
"""A cell's answers up to this size are embedded as plain JSON, larger ones compressed."""
_CUTS = (None, 8000, 4000, 2000, 1000, 400, 150)
_COLUMNS = ("text", "answer", "branch", "finish_reason", "tokens", "latency_s")


@dataclass
class Answers:
    """The items of one cell in the order of the study's questions."""

    cell: Cell
    file: str
    correct: str
    columns: dict[str, list[Any]]


@dataclass
class ItemData:
    """The questions, the cells that answered them, and why others are not there."""

    questions: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[Cell, Answers] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def pair_groups(study: Study) -> list[tuple[str, list[tuple[Cell, Cell]]]]:
    """The pairs that a reader asks about, in three groups."""
    reference, quantized = study.quantize.reference, study.quantize.schemes
    trained = trained_variants(study)
    return [
        ("What GRPO changed", [(Cell(BASE, s), Cell(v, s)) for s in (reference, *quantized) for v in trained]),
        ("What quantization changed",
         [(Cell(v, reference), Cell(v, s)) for v in variants(study) for s in quantized]),
        ("From the base to the trained and quantized model",
         [(Cell(BASE, reference), Cell(v, s)) for s in quantized for v in trained]),
    ]  # fmt: skip


def read_items(material: Material) -> ItemData:
    """Items of every measured cell; a cell whose items cannot be paired with the first one's is left out."""
    records = {
        (r["cell"].get("variant"), r["cell"].get("scheme")): r for r in material.records.get("evaluate_gsm8k", [])
    }
    found = ItemData()
    prompts: list[Any] | None = None
    for cell in evaluation_cells(material.study):
        record = records.get((cell.variant, cell.scheme))
        if record is None:
            found.left_out.append((cell.name, "it has not been measured yet"))
        elif record["status"] != "ok":
            found.left_out.append((cell.name, f"{record['status']}: {record.get('reason')}"))
        elif len(found.answers) >= MAX_CELLS:
            found.left_out.append((cell.name, f"the page holds {MAX_CELLS} cells at most"))
        else:
            prompts = _add(found, cell, record, prompts)
    return found


def _add(found: ItemData, cell: Cell, record: Record, prompts: list[Any] | None) -> list[Any] | None:
    """Add a cell; returns the prompts that every further cell must have."""
    try:
        columns = read_sidecar(record, "items")
        n = len(columns["index"])
        order = sorted(range(n), key=columns["index"].__getitem__)
        asked = [columns["prompt_sha256"][i] for i in order]
        if prompts is not None and asked != prompts:
            found.left_out.append((cell.name, "it was asked other questions than the cells before it"))
            return prompts
        if prompts is None:
            names = ("index", "question", "gold")
            found.questions = [{name: columns[name][i] for name in names} for i in order]
        correct = "".join("1" if columns["correct"][i] else "0" for i in order)
        kept = {name: [columns[name][i] for i in order] for name in _COLUMNS if name in columns}
    except RecordError as error:
        found.left_out.append((cell.name, error.what))
        return prompts
    except KeyError as error:
        found.left_out.append((cell.name, f"its items have no column {error}"))
        return prompts
    found.answers[cell] = Answers(cell, record["outputs"]["items"]["file"], correct, kept)
    return asked


def embedded(answers: Sequence[Answers], limit: int = MAX_BYTES) -> tuple[list[tuple[str, str]], int | None]:
    """For each cell its answers as (encoding, text), and at how many characters texts were cut (None: whole)."""
    blocks: list[tuple[str, str]] = []
    for cut in _CUTS:
        blocks = [_block(found, cut) for found in answers]
        if sum(len(text) for _, text in blocks) <= limit:
            return blocks, cut
    return blocks, _CUTS[-1]


def _block(found: Answers, cut: int | None) -> tuple[str, str]:
    columns = dict(found.columns)
    if cut is not None:
        columns["text"] = [_shortened(text, cut) for text in columns.get("text", [])]
    if "latency_s" in columns:
        columns["latency_s"] = [None if value is None else round(value, 3) for value in columns["latency_s"]]
    plain = str(embedded_json(columns))
    if len(plain) <= PLAIN_BYTES:
        return "json", plain
    packed = gzip.compress(json.dumps(columns, ensure_ascii=False, sort_keys=True).encode(), 6, mtime=0)
    return "gzip", base64.b64encode(packed).decode("ascii")


def _shortened(text: str | None, cut: int) -> str | None:
    """The beginning and, since the answer stands there, more of the end."""
    if text is None or len(text) <= cut:
        return text
    head = cut // 3
    return f"{text[:head]}\n[… {len(text) - cut} characters left out …]\n{text[len(text) - (cut - head) :]}"


def items_page(material: Material, report_name: str) -> str:
    """The text of items.html."""
    data = read_items(material)
    answers = list(data.answers.values())
    blocks, cut = embedded(answers)
    groups = [
        {"title": title, "pairs": [[a.name, b.name] for a, b in pairs if a in data.answers and b in data.answers]}
        for title, pairs in pair_groups(material.study)
    ]
    groups = [group for group in groups if group["pairs"]]
    index = {
        "groups": groups,
        "questions": {name: [row[name] for row in data.questions] for name in ("index", "question", "gold")},
        "cells": [{"name": a.cell.name, "correct": a.correct} for a in answers],
    }
    return render(
        "items.html.j2", asset("common.js") + asset("items.js"), asset("base.css") + asset("items.css"),
        study=material.study, groups=groups, index=embedded_json(index), blocks=blocks, answers=answers, cut=cut,
        left_out=data.left_out, report_name=report_name, items=len(data.questions),
    )  # fmt: skip

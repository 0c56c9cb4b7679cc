"""Perplexity of each cell, and paired differences over the same windows of the same tokens."""

from __future__ import annotations

import math
from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.stats.ratio import Ratio, bootstrap_ratio
from gainwatt.study import BASE, Cell, evaluation_cells
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
Blocks = tuple[list[float], list[int]]
"""Summed loss in nats and scored tokens of each block."""

MIN_DOCUMENTS = 30
BLOCK_TOKENS = 2048
_COPIED = ("tokens_scored", "nll_per_token", "perplexity")
_COPIED_LAST = ("bits_per_byte", "word_perplexity", "windows", "documents")


def perplexities(results: Results) -> list[Row]:
    """One row per cell: perplexity with interval, then differences to the reference scheme and to the base model.

    Differences are in nats per token over the same windows; exp of one is the ratio of two perplexities. Intervals are
    percentile bootstraps over blocks: a document, or, with fewer than 30 documents, consecutive windows of at least
    2,048 scored tokens, since neighbouring windows are not independent. Raises RecordError, naming both cells, where
    two cells of the study were measured on other texts, or with another window, stride or tokenizer.
    """
    if results.study.perplexity is None:
        return []
    check_comparable(results)
    measured = {cell: _blocks(record) for cell, record in results.perplexities.items() if record["status"] == "ok"}
    return [_row(results, cell, measured) for cell in evaluation_cells(results.study)]


def section(rows: list[Row]) -> str:
    """The summary's part about perplexity; empty where none was measured."""
    shown = [
        {
            "variant": row["variant"],
            "scheme": row["precision"],
            "perplexity": row["perplexity"],
            "interval": _between(row["perplexity_low"], row["perplexity_high"]),
            "bits per byte": row["bits_per_byte"],
            "over the reference": row["perplexity_over_reference"],
            "nats per token more": _between(row["nll_minus_reference_low"], row["nll_minus_reference_high"]),
        }
        for row in rows
        if row["perplexity"] is not None
    ]
    if not shown:
        return ""
    first = next(row for row in rows if row["perplexity"] is not None)
    return (
        f"## Perplexity\n\n{to_markdown(shown)}\nOn {first['corpus']}: {first['tokens_scored']} tokens, window "
        f"{first['window']}, stride {first['stride']}; differences are paired on the same windows.\n"
    )


def _between(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"[{low:.4g}, {high:.4g}]"


def check_comparable(results: Results) -> None:
    """Raise RecordError where two measured cells have perplexities that must not be compared."""
    measured = {cell: record for cell, record in results.perplexities.items() if record["status"] == "ok"}
    if not measured:
        return
    first, *rest = measured
    wanted = _identity(measured[first])
    for cell in rest:
        for what, value in _identity(measured[cell]).items():
            if value != wanted[what]:
                raise RecordError(
                    f"the perplexities of {first.name} and {cell.name} cannot be compared: {what} is "
                    f"{wanted[what]} in {measured[first]['path']} and {value} in {measured[cell]['path']}",
                    "measure both again on one text with one setting and one tokenizer",
                )


def _identity(record: Record) -> dict[str, Any]:
    """What must agree; the coarse first, so that an error names the cause and not a consequence of it."""
    settings = record["settings"]["perplexity"]
    return {
        "the corpus (SHA-256)": record["inputs"]["corpus"]["sha256"],
        **{name: settings[name] for name in ("window", "stride", "prefix", "max_tokens")},
        "the tokenizer's reading of it (SHA-256 of the tokens)": record["inputs"]["tokens"]["sha256"],
    }


def _row(results: Results, cell: Cell, blocks: dict[Cell, Blocks]) -> Row:
    record = results.perplexities.get(cell)
    metrics: Row = record["metrics"] if record else {}
    inputs: Row = record["inputs"] if record else {}
    settings = results.study.perplexity
    own = _interval(results, *blocks[cell]) if cell in blocks else None
    row: Row = {
        "variant": cell.variant,
        "precision": cell.scheme,
        "corpus": settings.corpus if settings else None,
        "corpus_sha256": inputs.get("corpus", {}).get("sha256"),
        "window": settings.window if settings else None,
        "stride": settings.stride if settings else None,
        **{name: metrics.get(name) for name in _COPIED},
        "perplexity_low": _exp(own.low) if own else None,
        "perplexity_high": _exp(own.high) if own else None,
        **{name: metrics.get(name) for name in _COPIED_LAST},
    }
    reference = Cell(cell.variant, results.study.quantize.reference)
    row |= _difference(results, "reference", reference, cell, blocks)
    row |= _difference(results, "base", Cell(BASE, cell.scheme), cell, blocks)
    row |= {
        "blocks": len(blocks[cell][0]) if cell in blocks else None,
        "status": record["status"] if record else "missing",
        "reason": _reason(record),
    }
    return row


def _difference(results: Results, name: str, before: Cell, after: Cell, blocks: dict[Cell, Blocks]) -> Row:
    """after − before in nats per token, with its interval; null for a cell against itself."""
    names = [f"nll_minus_{name}{end}" for end in ("", "_low", "_high")] + [f"perplexity_over_{name}"]
    if before == after or before not in blocks or after not in blocks:
        return dict.fromkeys(names)
    (old, tokens), (new, _) = blocks[before], blocks[after]
    found = _interval(results, [b - a for a, b in zip(old, new, strict=True)], tokens)
    values = (found.estimate, found.low, found.high, _exp(found.estimate))
    return dict(zip(names, values, strict=True))


def _interval(results: Results, nll: list[float], tokens: list[int]) -> Ratio:
    if len(tokens) < 2 or not all(math.isfinite(value) for value in nll):
        total = sum(nll)
        return Ratio(total / sum(tokens) if math.isfinite(total) else None, None, None, "one block, or a loss of NaN")
    settings = results.study.statistics
    return bootstrap_ratio(
        nll, tokens, draws=settings.bootstrap_draws, confidence=settings.confidence, seed=settings.seed
    )


def _blocks(record: Record) -> Blocks:
    return blocks(read_sidecar(record, "windows", ["index", "document", "tokens", "nll_sum"]))


def blocks(columns: dict[str, list[Any]]) -> Blocks:
    """Loss and tokens by block, from the columns index, document, tokens and nll_sum; windows in the text's order."""
    order = sorted(range(len(columns["index"])), key=columns["index"].__getitem__)
    whole_documents = len(set(columns["document"])) >= MIN_DOCUMENTS
    nll: list[list[float]] = []
    tokens: list[int] = []
    last = None
    for i in order:
        document, count = columns["document"][i], columns["tokens"][i]
        if document != last or not (whole_documents or tokens[-1] < BLOCK_TOKENS):
            nll.append([])
            tokens.append(0)
        nll[-1].append(columns["nll_sum"][i])
        tokens[-1] += count
        last = document
    return [math.fsum(values) for values in nll], tokens


def _reason(record: Record | None) -> str | None:
    if record is None:
        return "not measured yet"
    if record["status"] != "ok":
        return str(record["reason"])
    return "; ".join(sorted({record["null_reasons"].get(name, "") for name in _COPIED} - {""})) or None


def _exp(value: float | None) -> float | None:
    return None if value is None or value > 700 else math.exp(value)

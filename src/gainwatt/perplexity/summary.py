"""Metrics of one cell's windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gainwatt.perplexity.windows import Encoded


def window_rows(encoded: Encoded, sums: Mapping[int, float]) -> list[dict[str, Any]]:
    """One row per window: where it lies, how many tokens it scores, and their summed loss in nats."""
    return [
        {
            "index": window.index,
            "document": window.document,
            "begin": window.begin,
            "first_scored": window.first,
            "end": window.end,
            "tokens": window.tokens,
            "nll_sum": sums[window.index],
        }
        for window in encoded.windows
    ]


def summarize(encoded: Encoded, sums: Mapping[int, float]) -> tuple[dict[str, Any], dict[str, str]]:
    """Metrics, and the reasons of those that are null.

    nll_per_token = Σ nll / scored tokens (nats) and perplexity = exp of it depend on the tokenizer. bits_per_byte =
    Σ nll / (ln 2 · UTF-8 bytes) does not, nor does word_perplexity = exp(Σ nll / words), the definitions of
    lm-evaluation-harness; both need every token scored, so that they are null with `prefix: none`.
    """
    total = math.fsum(sums[window.index] for window in encoded.windows)
    metrics: dict[str, Any] = {
        "tokens_scored": encoded.tokens,
        "windows": len(encoded.windows),
        "documents": len(encoded.sequences),
        "corpus_bytes": encoded.text_bytes,
        "corpus_words": encoded.words,
    }
    reasons: dict[str, str] = {}
    values = {
        "nll_per_token": total / encoded.tokens,
        "perplexity": _exp(total / encoded.tokens),
        "bits_per_byte": total / math.log(2) / encoded.text_bytes,
        "word_perplexity": _exp(total / encoded.words),
    }
    for name, value in values.items():
        if encoded.prefix_token_id is None and name in ("bits_per_byte", "word_perplexity"):
            metrics[name], reasons[name] = None, "the first token of each document is not scored with prefix: none"
        elif not math.isfinite(value):
            metrics[name], reasons[name] = None, f"the loss is {value}: {_culprit(encoded, sums)}"
        else:
            metrics[name] = value
    return metrics, reasons


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _culprit(encoded: Encoded, sums: Mapping[int, float]) -> str:
    bad = [window for window in encoded.windows if not math.isfinite(sums[window.index])]
    if not bad:
        return "too large for a number"
    return f"{len(bad)} of {len(encoded.windows)} windows gave none, the first in document {bad[0].document}"

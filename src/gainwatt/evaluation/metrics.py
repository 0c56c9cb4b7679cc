"""From completions to per-item rows and the metrics of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gainwatt.engines.base import Completion
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.lm_eval import INVALID, flexible_extract, strict_extract
from gainwatt.gsm8k.score import score
from gainwatt.record import text_sha256

BRANCHES = ("answer_tag", "hash", "phrase", "last_number", "none")


def item_rows(
    items: Sequence[Item], completions: dict[int, Completion], prompts: dict[int, str]
) -> list[dict[str, Any]]:
    """One row per item: what was asked, answered, parsed, and how long it took. Raises InputError if one is missing."""
    rows = []
    for item in items:
        if item.index not in completions:
            raise InputError(f"item {item.index} has no completion", "run the evaluation again")
        found = completions[item.index]
        scored = score(found.text, item.gold)
        rows.append(
            {
                "index": item.index,
                "prompt_sha256": text_sha256(prompts[item.index]),
                "question": item.question,
                "gold": item.gold,
                "text": found.text,
                "answer": scored.parsed.value,
                "branch": scored.parsed.branch,
                "correct": scored.correct,
                "strict_match": scored.strict_match,
                "flexible_match": scored.flexible_match,
                "leak": scored.parsed.leak,
                "format_compliant": scored.parsed.format_compliant,
                "tokens": found.tokens,
                "finish_reason": found.finish_reason,
                "latency_s": found.latency_s,
                "batch_size": found.batch_size,
            }
        )
    return rows


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Metrics of a cell over its items; every rate is a share of all items.

    `parse_rate` counts any number found; `format_compliance_rate` counts the asked-for last line `#### <answer>`;
    the two `_invalid_rate` count answers in which lm-eval's filters find nothing;
    `hit_max_new_tokens_rate` counts answers cut by the length limit; `completion_tokens_mean` counts the stop token.
    """
    n = len(rows)

    def share(test: Any) -> float:
        return sum(1 for row in rows if test(row)) / n

    metrics: dict[str, Any] = {
        "num_examples": n,
        "correct": sum(row["correct"] for row in rows),
        "accuracy": share(lambda row: row["correct"]),
        "accuracy_strict_match": share(lambda row: row["strict_match"]),
        "accuracy_flexible_extract": share(lambda row: row["flexible_match"]),
        "strict_match_invalid_rate": share(lambda row: strict_extract(row["text"]) == INVALID),
        "flexible_extract_invalid_rate": share(lambda row: flexible_extract(row["text"]) == INVALID),
        "parse_rate": share(lambda row: row["branch"] != "none"),
        "format_compliance_rate": share(lambda row: row["format_compliant"]),
        "prompt_leak_rate": share(lambda row: row["leak"]),
        "hit_max_new_tokens_rate": share(lambda row: row["finish_reason"] == "length"),
        "ended_with_eos_rate": share(lambda row: row["finish_reason"] == "stop"),
        "completion_chars_mean": sum(len(row["text"]) for row in rows) / n,
        "completion_tokens_mean": sum(row["tokens"] for row in rows) / n,
        "generated_tokens": sum(row["tokens"] for row in rows),
    }
    for branch in BRANCHES:
        metrics[f"branch_{branch}_rate"] = share(lambda row, branch=branch: row["branch"] == branch)
    return metrics

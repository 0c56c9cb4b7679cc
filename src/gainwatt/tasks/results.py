"""From lm-eval's results to plain rows, metrics and settings of a record."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def keep(results: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one run of lm-eval, as JSON values: numbers, how the tasks were asked, and a row per sample."""
    tasks = sorted(results["samples"])
    return {
        "tasks": {task: _about(results, task) for task in tasks},
        "values": {task: _values(results["results"][task]) for task in tasks},
        "samples": [row for task in tasks for row in _samples(task, results["samples"][task])],
    }


def metrics_of(kept: Iterable[dict[str, Any]]) -> tuple[Row, dict[str, str]]:
    """Metrics of the record, `task.metric` or `task.metric.filter`, and the reasons of those that are null."""
    metrics: Row = {}
    reasons: dict[str, str] = {}
    for part in kept:
        for task, values in part["values"].items():
            metrics[f"{task}.items"] = part["tasks"][task]["items"]
            for name, value in values.items():
                metrics[f"{task}.{name}"] = value
                if value is None:
                    reasons[f"{task}.{name}"] = "lm-eval gives no number for it"
    return metrics, reasons


def _about(results: dict[str, Any], task: str) -> Row:
    config = results["configs"][task]
    counts = results["n-samples"][task]
    return {
        "version": results["versions"].get(task),
        "items": counts["effective"],
        "items_in_task": counts["original"],
        "num_fewshot": results["n-shot"].get(task),
        "output_type": config.get("output_type"),
        "dataset_path": config.get("dataset_path"),
        "dataset_name": config.get("dataset_name"),
        "split": config.get("test_split") or config.get("validation_split") or config.get("training_split"),
        "higher_is_better": results["higher_is_better"].get(task, {}),
        "items_sha256": _items_sha256(results["samples"][task]),
    }


def _items_sha256(samples: list[Row]) -> str:
    """Over documents and prompts in order: two cells with the same hash were asked the same."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda found: (found["doc_id"], str(found.get("filter")))):
        digest.update(f"{sample['doc_id']} {sample['doc_hash']} {sample['prompt_hash']}\n".encode())
    return digest.hexdigest()


def _values(found: dict[str, Any]) -> Row:
    """`metric` or `metric.filter` -> number; standard errors follow their metric."""
    values: Row = {}
    for key, value in found.items():
        metric, comma, filtered = key.partition(",")
        if not comma:
            continue  # the task's name, its alias, the number of items
        name = metric if filtered == "none" else f"{metric}.{filtered}"
        values[name] = _number(value)
    return values


def _samples(task: str, samples: list[Row]) -> list[Row]:
    """One row per item, filter and metric, in the order of the items."""
    rows = []
    for sample in sorted(samples, key=lambda found: (found["doc_id"], str(found.get("filter")))):
        for metric in sample["metrics"]:
            rows.append(
                {
                    "task": task,
                    "filter": str(sample.get("filter", "none")),
                    "metric": metric,
                    "doc_id": int(sample["doc_id"]),
                    "doc_hash": sample["doc_hash"],
                    "prompt_hash": sample["prompt_hash"],
                    "value": _number(sample.get(metric)),
                    "target": str(sample.get("target")),
                    "response": json.dumps(sample.get("filtered_resps"), default=str, ensure_ascii=False),
                    "doc": json.dumps(sample.get("doc"), default=str, ensure_ascii=False),
                }
            )
    return rows


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else (lm-eval writes N/A, and metrics of whole texts are pairs)."""
    if value is None or isinstance(value, str):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None

"""The published inference table in its own columns, each published row followed by ours of the same precision."""

from __future__ import annotations

from typing import Any

from gainwatt.published import published
from gainwatt.tables.profile import inference_benchmark
from gainwatt.tables.results import Results
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
SCHEMES: dict[str, tuple[str, ...]] = {
    "FP16": ("fp16",),
    "INT8": ("bnb-int8",),
    "INT4": ("bnb-nf4-single", "bnb-nf4"),
}
"""Published precision -> our schemes, the nearest first: NF4 without double quantization, then with it."""
BATCH = 1
NOTE = "model size: peak of generating, reset before it; latency: of greedy decoding; GSM8K: chat template, all items"
GENERATED = "WikiPPL and GSM8K are null where the study uses its own text or generated problems"


def inference(results: Results) -> list[Row]:
    """Published rows and ours under the published column names and in their order; ours at batch 1.

    Empty where the study names no published numbers. Where the study profiles no cell of a precision, or has another
    reference than fp16, its unquantized baseline stands beside the first row.
    """
    if results.study.published is None:
        return []
    source = published(results.study.published)
    columns = source.columns("inference")
    ours = [row for row in inference_benchmark(results) if row["batch_size"] == BATCH and row["variant"] == "base"]
    rows = []
    for place, entry in enumerate(source.rows("inference")):
        rows.append({"source": f"published ({source.machine})", "scheme": None, **entry, "status": None, "note": None})
        names = SCHEMES[str(entry["Precision"])]
        if place == 0 and not any(row["precision"] in names for row in ours):
            names = (results.study.profile.baseline,) if results.study.profile else ()
        chosen = next(([row for row in ours if row["precision"] == name] for name in names if _has(ours, name)), [])
        rows += [_ours(columns, str(entry["Precision"]), row | _of_other_texts(results)) for row in chosen]
    return rows


def _of_other_texts(results: Results) -> Row:
    """Nulls for scores that do not belong under the published names: of the study's own text, of generated problems."""
    study = results.study
    found: Row = {}
    if study.perplexity is None or study.perplexity.corpus.startswith("data:"):
        found["perplexity"] = None
    if study.data.source == "embedded":
        found["gsm8k_accuracy"] = None
    return found


def _has(rows: list[Row], scheme: str) -> bool:
    return any(row["precision"] == scheme for row in rows)


def _ours(columns: list[str], precision: str, row: Row) -> Row:
    accuracy = row["gsm8k_accuracy"]
    if row["precision"] not in SCHEMES[precision]:
        precision = str(row["precision"]).upper()  # the baseline of a study without fp16
    values = (
        precision, row["vram_mb"], row["mean_latency_ms"], row["tokens_per_second"], row["perplexity"],
        None if accuracy is None else f"{100 * accuracy:.1f}%",
    )  # fmt: skip
    load = f"{row['input_length']} + {row['new_tokens']} tokens"
    return {
        "source": "measured", "scheme": row["precision"], **dict(zip(columns, values, strict=True)),
        "status": row["status"], "note": f"{load}; {NOTE}; {GENERATED}",
    }  # fmt: skip


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """The summary's part; empty where nothing is published or nothing was profiled."""
    rows = tables.get("published_inference", [])
    if not any(row["source"] == "measured" for row in rows):
        return ""
    source = published(str(results.study.published))
    names = ["source", "scheme", *source.columns("inference")]
    about = source.tables["inference"]["about"]
    return (
        f"## Generation beside the published table\n\n{to_markdown(rows, names)}\n"
        f"Published ({source.source}): {about}. Ours: {NOTE}; {GENERATED}.\n"
    )

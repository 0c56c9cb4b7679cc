"""The summary that a person reads first: matrix with intervals, gain, survival, cost, where the rest lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gainwatt.report.verdict import answer
from gainwatt.study import schemes, variants
from gainwatt.tables import heads, llamacpp, perplexity, profile, published, serving, tasks, train_profile
from gainwatt.tables.results import Results
from gainwatt.tables.weights import changes_section
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
SECTIONS: tuple[Callable[[Results, dict[str, list[Row]]], str], ...] = (
    heads.section,
    llamacpp.section,
    profile.section,
    serving.section,
    published.section,
    train_profile.section,
)
"""Sections of optional branches: from the results and all tables to Markdown, empty where there is nothing to say."""


def summary(results: Results, tables: dict[str, list[Row]]) -> str:
    """Markdown text of the whole study."""
    study = results.study
    if not study.matrix:
        return f"# {study.study}\n\n{study.description.strip()}\n" + _branches(results, tables)
    found = answer(study, tables["gain_survival"], tables["accuracy_matrix"], tables["gains"])
    parts = [f"# {study.study}: does the gain survive quantization?\n", f"**{found.headline}**\n"]
    parts += [f"{sentence}\n" for sentence in found.sentences]
    parts.append(study.description.strip() + "\n")
    missing = results.missing()
    if missing:
        parts.append("**Not measured yet:** " + ", ".join(cell.name for cell in missing) + "\n")
    percent = round(100 * study.statistics.confidence)
    parts.append(f"## Accuracy, % of items [{percent} % interval]\n")
    parts.append(_grid(results, tables["accuracy_matrix"]))
    parts.append("## What GRPO gained (points, paired on the same items)\n")
    parts.append(to_markdown([_points(row) for row in tables["gains"]]))
    parts.append(f"## Does it survive? (margin {100 * study.statistics.survival_margin:g} points)\n")
    parts.append(_survival(tables["gain_survival"]))
    if section := changes_section(results, tables.get("weight_changes", [])):
        parts.append(section)
    for text in (perplexity.section(tables.get("perplexity", [])), tasks.section(tables.get("tasks", []))):
        if text:
            parts.append(text)
    parts.append("## Cost per correct answer\n")
    parts.append(_cost(tables["cost_per_correct"]))
    return "\n".join(parts) + _branches(results, tables)


def _branches(results: Results, tables: dict[str, list[Row]]) -> str:
    """What the optional branches say of themselves, each under its own heading."""
    texts = [section(results, tables) for section in SECTIONS]
    return "".join(f"\n{text}" for text in texts if text)


def _grid(results: Results, rows: list[Row]) -> str:
    cells = {(row["variant"], row["precision"]): row for row in rows}
    grid = []
    for variant in variants(results.study):
        line: Row = {"variant": variant}
        for scheme in schemes(results.study):
            line[scheme] = _accuracy(cells[variant, scheme])
        grid.append(line)
    n = max((row["num_examples"] or 0 for row in rows), default=0)
    return to_markdown(grid) + f"\nn = {n} items in each cell; Wilson intervals.\n"


def _accuracy(row: Row) -> str:
    if row["accuracy"] is None:
        return row["status"]
    return f"{100 * row['accuracy']:.1f} [{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}]"


def _points(row: Row) -> Row:
    return {
        "from": row["from"],
        "to": row["to"],
        "gain": f"{100 * row['difference']:+.1f}",
        "interval": f"[{100 * row['difference_low']:+.1f}, {100 * row['difference_high']:+.1f}]",
        "improved / worsened": f"{row['improved']} / {row['worsened']}",
        "p (McNemar, Holm)": f"{row['mcnemar_p_holm']:.2g}",
    }


def _survival(rows: list[Row]) -> str:
    if not rows:
        return "No scheme has all four cells (base and trained, reference and quantized) yet.\n"
    shown = [
        {
            "scheme": row["scheme"],
            "variants": row["variants"],
            "gain, reference": f"{100 * row['delta_reference']:+.1f}",
            "gain, quantized": f"{100 * row['delta_quantized']:+.1f}",
            "survival": f"{100 * row['gain_survival']:+.1f}",
            "interval": f"[{100 * row['gain_survival_low']:+.1f}, {100 * row['gain_survival_high']:+.1f}]",
            "verdict": row["verdict"],
        }
        for row in rows
    ]
    return (
        to_markdown(shown)
        + "\n"
        + "\n".join(f"- {row['scheme']}, {row['variants']}: {row['why']}" for row in rows)
        + "\n"
    )


def _cost(rows: list[Row]) -> str:
    names = (
        "variant",
        "scheme",
        "s_per_correct",
        "tokens_per_correct",
        "gross_j_per_correct",
        "net_j_per_correct",
        "above_loaded_idle_j_per_correct",
    )
    text = to_markdown(rows, names)
    reasons = sorted({row["null_reason"] for row in rows if row["null_reason"]})
    return text + "".join(f"\nNull joules: {reason}\n" for reason in reasons)

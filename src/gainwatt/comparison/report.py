"""The whole comparison, and its text in Markdown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from gainwatt.comparison import changes
from gainwatt.comparison.accuracy import Settings, accuracy_rows
from gainwatt.comparison.cost import REPEATABILITY, cost_rows
from gainwatt.comparison.judge import VERDICTS, Compared, judged
from gainwatt.comparison.sides import Side
from gainwatt.study.validation import Validation
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
_BRIEF = ("same", "missing")


@dataclass
class Comparison:
    """Everything that was compared; each list is one table."""

    a: Side
    b: Side
    rows: list[Compared]
    configuration: list[Row]
    environment: list[Row]
    inputs: list[Row]
    missing: list[Row]
    settings: Settings
    limits: Validation

    def tables(self) -> dict[str, list[Row]]:
        """Name -> rows of every table, as they are written."""
        return {
            "comparison": [row.as_row() for row in self.rows],
            "configuration": self.configuration,
            "environment": self.environment,
            "inputs": self.inputs,
            "missing": self.missing,
            "unreadable": [
                {"side": name, "file": entry.file, "what": entry.what, "hint": entry.hint}
                for name, side in (("A", self.a), ("B", self.b))
                for entry in side.unreadable
            ],
        }


def compare(a: Side, b: Side, settings: Settings, limits: Validation) -> Comparison:
    """Compare two sides; every test of the result is corrected together."""
    rows = judged([*accuracy_rows(a, b, settings), *cost_rows(a, b, limits)], settings.confidence)
    tables = (changes.configuration(a, b), changes.environment(a, b), changes.inputs(a, b), changes.missing(a, b))
    return Comparison(a, b, rows, *tables, settings=settings, limits=limits)


def as_markdown(found: Comparison) -> str:
    """The comparison for people: what changed, then which differences exceed noise, then every row."""
    tables = found.tables()
    parts = [f"# {found.a.label} (A) against {found.b.label} (B)\n", _headline(found)]
    if tables["unreadable"]:
        parts += ["## Records that could not be read\n", to_markdown(tables["unreadable"])]
    parts += ["## What changed\n", _section("Configuration", found.configuration, "No setting differs.")]
    parts.append(_section("Environment", found.environment, "Machine, driver, packages and commit are the same."))
    parts.append(_inputs(found.inputs))
    if found.missing:
        parts.append(_section("Cells that are not on both sides", found.missing, ""))
    parts += ["## What differs\n", _differences(found), _explanation(found)]
    return "\n".join(parts)


def _headline(found: Comparison) -> str:
    counted = Counter(row.verdict for row in found.rows)
    told = "; ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict])
    different = [row for row in found.rows if row.verdict == "different"]
    lines = [
        f"{len(found.a.records)} and {len(found.b.records)} records. {len(found.rows)} quantities: {told or 'none'}."
    ]
    if different:
        lines.append("\nDifferences that exceed noise:\n")
        lines += [
            f"- {row.quantity} of {row.cell}: {_value(row.a, row)} → {_value(row.b, row)} {_interval(row)}"
            for row in different
        ]
    else:
        alone = " by a test; differences of single runs are named as such" if counted[VERDICTS[1]] else ""
        lines.append(f"No difference was shown to exceed noise{alone}.")
    return "\n".join(lines) + "\n"


def _section(title: str, rows: list[Row], nothing: str) -> str:
    shown = [{name: _cut(value) for name, value in row.items()} for row in rows]
    return f"### {title}\n\n{to_markdown(shown) if shown else nothing + chr(10)}"


def _cut(value: Any) -> Any:
    text = str(value)
    return value if len(text) <= 60 else f"{text[:57]}..."


def _inputs(rows: list[Row]) -> str:
    changed = [row for row in rows if not row["same"]]
    said = f"{len(rows) - len(changed)} of {len(rows)} inputs of common cells are the same by hash.\n"
    if not changed:
        return f"### Inputs\n\n{said}"
    grouped: dict[tuple[str, str, str, str], list[str]] = {}
    for row in changed:
        key = (row["stage"], row["input"], str(row["a"])[:12], str(row["b"])[:12])
        grouped.setdefault(key, []).append(row["cell"])
    shown = [
        {"stage": stage, "input": name, "a": old, "b": new, "cells": ", ".join(cells)}
        for (stage, name, old, new), cells in grouped.items()
    ]
    return f"### Inputs\n\n{said}\n{to_markdown(shown)}"


def _differences(found: Comparison) -> str:
    brief = [row for row in found.rows if row.verdict in _BRIEF]
    rows = sorted((row for row in found.rows if row not in brief), key=lambda row: VERDICTS.index(row.verdict))
    shown = [
        {
            "quantity": row.quantity,
            "cell": row.cell,
            "A": _value(row.a, row),
            "B": _value(row.b, row),
            "B − A": _difference(row),
            "interval": _interval(row),
            "p (Holm)": "" if row.p_holm is None else f"{row.p_holm:.2g}",
            "verdict": row.verdict,
            "note": row.note,
        }
        for row in rows
    ]
    table = to_markdown(shown) if shown else ""
    return "\n".join(part for part in (table, _in_brief(brief)) if part) or "Nothing to compare.\n"


def _in_brief(rows: list[Compared]) -> str:
    """One line per quantity for rows that need no numbers; the CSV has them all."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in sorted(rows, key=lambda row: VERDICTS.index(row.verdict)):
        grouped.setdefault((row.verdict, row.quantity), []).append(row.cell)
    words = {"same": "the same on both sides", "missing": "not on both sides"}
    return "".join(
        f"- {words[verdict]}: {quantity}: {', '.join(cells)}\n" for (verdict, quantity), cells in grouped.items()
    )


def _share(row: Compared) -> bool:
    return row.unit == "share of items"


def _value(value: float | None, row: Compared) -> str:
    if value is None:
        return "–"
    if _share(row):
        return f"{100 * value:.1f} %" if row.quantity == "accuracy" else f"{100 * value:+.1f} points"
    return f"{value:.4g} {row.unit}"


def _difference(row: Compared) -> str:
    if row.difference is None:
        return "–"
    if _share(row):
        return f"{100 * row.difference:+.1f} points"
    return f"{row.difference:+.4g}" + ("" if row.relative is None else f" ({row.relative:+.1%})")


def _interval(row: Compared) -> str:
    if row.low is None or row.high is None:
        return ""
    scale = 100 if _share(row) else 1
    return f"[{scale * row.low:+.3g}, {scale * row.high:+.3g}]"


def _explanation(found: Comparison) -> str:
    floors = [f"{REPEATABILITY * cv:.1%}" for cv in (found.limits.cv_throughput, found.limits.cv_power)]
    tests = sum(row.p_value is not None for row in found.rows)
    return (
        f"*different*: the p-value, corrected by Holm over all {tests} tests here, is below "
        f"{1 - found.settings.confidence:.2g}. *above the noise floor, one run each*: the difference is above "
        f"the floor ({floors[0]} for seconds and rates, {floors[1]} for joules: 2.77 times the largest coefficient of "
        "variation that the measuring protocol accepts), but a single run on each side does not show that it would "
        "come again. "
        "*refused*: the two numbers measure different things, the note says which.\n"
    )

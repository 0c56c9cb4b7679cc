"""Compare two studies, or two runs of one study: what changed, and which differences exceed noise.

A and B are study files (YAML) or results folders (results/<study>). Prints Markdown; --out writes the same with CSV and
JSON, --figure the differences of the accuracies as a figure. Measures nothing, needs no GPU.

    python scripts/compare_studies.py results/demo results.before/demo
    python scripts/compare_studies.py config/demo.yaml config/variant.yaml --out comparison
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_json, write_text
from gainwatt.comparison.accuracy import Settings
from gainwatt.comparison.judge import Compared
from gainwatt.comparison.report import Comparison, as_markdown, compare
from gainwatt.comparison.sides import Side, read_side
from gainwatt.errors import InputError
from gainwatt.study.validation import Validation
from gainwatt.tables.write import write_csv

# Headers of tables without rows.
_COLUMNS = {
    "comparison": tuple(Compared.__dataclass_fields__),
    "configuration": ("key", "a", "b", "source"),
    "environment": ("fact", "a", "b", "stages"),
    "inputs": ("stage", "cell", "input", "same", "a", "b"),
    "missing": ("stage", "cell", "a", "b"),
    "unreadable": ("side", "file", "what", "hint"),
}


def settings_of(args: argparse.Namespace, side: Side) -> tuple[Settings, Validation]:
    """How to test, from the options, else from A's study file, else the defaults."""
    whole: dict[str, Any] = side.file or {}
    statistics, limits = whole.get("statistics", {}), Validation.model_validate(whole.get("validation", {}))
    confidence = args.confidence if args.confidence is not None else statistics.get("confidence", 0.95)
    draws = args.draws if args.draws is not None else statistics.get("bootstrap_draws", 10_000)
    if not 0.5 < confidence < 1 or draws < 200:
        raise InputError(f"cannot test at a confidence of {confidence} with {draws} draws", "give e.g. 0.95 and 10000")
    return Settings(draws, confidence, statistics.get("seed", 0)), limits


def write(found: Comparison, out: Path, text: str) -> None:
    """Write Markdown, one CSV per table, and all of it as JSON."""
    tables = found.tables()
    for name, rows in tables.items():
        write_csv(out / f"{name}.csv", rows, _COLUMNS[name])
    write_json(out / "comparison.json", {"a": found.a.label, "b": found.b.label, **tables})
    write_text(out / "comparison.md", text)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A", help="study file or results folder: what to compare with")
    parser.add_argument("b", metavar="B", help="study file or results folder: what changed")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write comparison.md, .json and CSV files there")
    parser.add_argument("--figure", action="store_true", help="with --out: draw comparison.svg and .png")
    parser.add_argument("--confidence", type=float, help="level of intervals and tests (default: A's study, or 0.95)")
    parser.add_argument("--draws", type=int, help="bootstrap draws (default: A's study, or 10000)")
    args = parser.parse_args(argv)
    if args.figure and args.out is None:
        raise InputError("--figure needs a folder to draw into", "give --out DIR")
    a, b = read_side(args.a), read_side(args.b)
    settings, limits = settings_of(args, a)
    found = compare(a, b, settings, limits)
    text = as_markdown(found)
    print(text, end="")
    if args.out is not None:
        write(found, args.out, text)
    if args.figure:
        from gainwatt.figures import comparison, style

        drawn = comparison.differences(found.rows, percent=round(100 * settings.confidence))
        if drawn is not None:
            style.save(drawn, args.out, "comparison")
    return 0


if __name__ == "__main__":
    cli.run(main)

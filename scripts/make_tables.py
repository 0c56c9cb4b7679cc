"""Make every table of a study from its records: no GPU, no model, no measurement, seconds.

Writes CSV files and summary.md to the study's tables folder. The same records give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_text
from gainwatt.study import Layout
from gainwatt.tables import accuracy, cost, stages
from gainwatt.tables.results import Results
from gainwatt.tables.summary import summary
from gainwatt.tables.write import write_csv

TABLES = {
    "accuracy_matrix": accuracy.accuracy_matrix,
    "paired_quant_effect": accuracy.paired_effects,
    "gains": accuracy.gains,
    "gain_survival": accuracy.survivals,
    "changed_items": accuracy.changed_items,
    "cost_per_correct": cost.per_correct_answer,
    "energy_by_job": cost.energy_by_job,
    "training": stages.training,
    "quantization": stages.quantization,
    "weights": stages.weights,
}


def make(results: Results, out: Path) -> str:
    """Write every table to `out` and return the summary."""
    tables: dict[str, list[dict[str, Any]]] = {name: table(results) for name, table in TABLES.items()}
    for name, rows in tables.items():
        write_csv(out / f"{name}.csv", rows, names=["variant"])
    text = summary(results, tables)
    write_text(out / "summary.md", text)
    return text


def where(layout: Layout) -> str:
    """One line per kind of result: where it lies."""
    return (
        f"\ntables   {layout.tables}\nfigures  {layout.figures}\nrecords  {layout.results / 'records'}\n"
        f"logs     {layout.results / 'logs'}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables (default: from the study)")
    parser.add_argument("--show", action="store_true", help="print the summary and where the results lie")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    text = make(Results.load(study, layout), args.out or layout.tables)
    if args.show:
        print(text + where(layout))
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Make every table of a study from its records: no GPU, no model, no measurement, seconds.

Writes CSV files and summary.md to the study's tables folder. The same records give the same bytes. A record that was
made with other settings than the study has now is refused; with --allow-stale it is used, and summary.md and stale.csv
say so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_text
from gainwatt.study import Layout
from gainwatt.tables import (
    accuracy,
    cost,
    head_changes,
    head_pruning,
    heads,
    llamacpp,
    payback,
    perplexity,
    profile,
    profile_claims,
    profile_definitions,
    serving,
    stages,
    tasks,
    weights,
)
from gainwatt.tables import published as beside_published
from gainwatt.tables import train_profile as training_steps
from gainwatt.tables.results import Results
from gainwatt.tables.summary import summary
from gainwatt.tables.write import write_csv, write_json_lines

TABLES = {
    "accuracy_matrix": accuracy.accuracy_matrix,
    "paired_quant_effect": accuracy.paired_effects,
    "gains": accuracy.gains,
    "gain_survival": accuracy.survivals,
    "changed_items": accuracy.changed_items,
    "perplexity": perplexity.perplexities,
    "tasks": tasks.tasks,
    "cost_per_correct": cost.per_correct_answer,
    "training_payback": payback.payback,
    "energy_by_job": cost.energy_by_job,
    "training": stages.training,
    "quantization": stages.quantization,
    "weights": weights.weights,
    "weight_errors": weights.weight_errors,
    "weight_changes": weights.weight_changes,
    "weight_layers": weights.weight_layers,
    "inference_benchmark": profile.inference_benchmark,
    "profile": profile.profile,
    "profile_ratios": profile.ratios,
    "profile_claims": profile_claims.claims,
    "profile_definitions": profile_definitions.definitions,
    "serving_benchmark": serving.published,
    "serving_offline": serving.offline,
    "serving_online": serving.online,
    "serving_capacity": serving.capacities,
    "serving_kernels": serving.kernels,
    "heads": heads.head_cells,
    "head_scores": heads.head_scores,
    "head_changes": head_changes.head_changes,
    "head_agreement": head_changes.head_agreement,
    "head_pruning": head_pruning.head_pruning,
    "llamacpp_backends": llamacpp.backends,
    "llamacpp_per_token": llamacpp.per_token,
    "llamacpp_arms": llamacpp.arms,
    "llamacpp_ablations": llamacpp.ablations,
    "llamacpp_ranking": llamacpp.ranking,
    "llamacpp_race": llamacpp.sleep_race,
    "published_inference": beside_published.inference,
    "train_profile": training_steps.train_profile,
    "train_profile_ratios": training_steps.ratios,
    "train_profile_published": training_steps.beside_published,
    "train_profile_steps": training_steps.steps,
}
JSON_LINES = ("serving_benchmark",)
"""Tables that are also written as JSON lines: the published benchmark has both."""


def make(results: Results, out: Path) -> str:
    """Write every table to `out` and return the summary."""
    tables: dict[str, list[dict[str, Any]]] = {name: table(results) for name, table in TABLES.items()}
    for name, rows in tables.items():
        write_csv(out / f"{name}.csv", rows, names=serving.PUBLISHED if name in JSON_LINES else ["variant"])
    for name in JSON_LINES:
        write_json_lines(out / f"{name}.jsonl", tables[name])
    write_stale(results, out / "stale.csv")
    text = mark(results) + summary(results, tables)
    write_text(out / "summary.md", text)
    return text


def write_stale(results: Results, path: Path) -> None:
    """List the settings in which records differ from the study; no file where none does."""
    if results.stale:
        write_csv(path, [dataclasses.asdict(found) for found in results.stale])
    else:
        path.unlink(missing_ok=True)


def mark(results: Results) -> str:
    """What stands above a summary that rests on records made with other settings."""
    if not results.stale:
        return ""
    names = ", ".join(sorted({found.setting for found in results.stale}))
    count = len({found.path for found in results.stale})
    return (
        f"> **Stale:** {count} record(s) were made with other settings than the study has now ({names}): stale.csv\n\n"
    )


def where(layout: Layout) -> str:
    """One line per kind of result: where it lies."""
    return (
        f"\nreport   {layout.results / 'report.html'}\ntables   {layout.tables}\n"
        f"figures  {layout.figures}\nrecords  {layout.results / 'records'}\n"
        f"logs     {layout.results / 'logs'}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables (default: from the study)")
    parser.add_argument("--allow-stale", action="store_true", help="use records made with other settings, and say so")
    parser.add_argument("--show", action="store_true", help="print the summary and where the results lie")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    text = make(Results.load(study, layout, allow_stale=args.allow_stale), args.out or layout.tables)
    if args.show:
        print(text + where(layout))
    return 0


if __name__ == "__main__":
    cli.run(main)

"""Draw every figure of a study from its records, as SVG and PNG: no GPU, no model, no measurement.

Writes index.json last: each figure with title, caption, a text for those who do not see it, and the records that it was
made from. A figure whose records do not exist (yet) is left out and named there with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_json
from gainwatt.disk import naming
from gainwatt.figures import (
    accuracy,
    codes,
    energy,
    head_pruning,
    heads,
    llamacpp,
    llamacpp_ablations,
    outliers,
    paired,
    power,
    profile,
    roofline,
    style,
    training,
    weights,
)
from gainwatt.figures import serving as served
from gainwatt.figures import train_profile as training_steps
from gainwatt.figures.describe import describe, reason, sources
from gainwatt.figures.describe_llamacpp import NAMES as LLAMACPP_ABLATIONS
from gainwatt.study.branches import BRANCHES
from gainwatt.tables.results import Results

FIGURES = {
    "accuracy": (accuracy.accuracy, "evaluate_gsm8k"),
    "gain_survival": (accuracy.survival, "evaluate_gsm8k"),
    "paired_changes": (paired.paired_changes, "evaluate_gsm8k"),
    "training": (training.training, "train_grpo"),
    "energy_latency": (energy.energy_latency, "evaluate_gsm8k"),
    "layer_errors": (weights.layer_errors, "diagnose_weights"),
    "outlier_maps": (outliers.outlier_maps, "diagnose_weights"),
    "code_flips": (codes.code_flips, "diagnose_weights"),
    "scheme_bytes": (codes.scheme_bytes, "quantize"),
    "head_map": (heads.head_map, "score_heads"),
    "head_null": (heads.head_null, "score_heads"),
    "head_pruning": (head_pruning.pruning_curve, "prune_heads"),
    "profile_batch": (profile.profile_batch, "profile_inference"),
    "profile_roofline": (roofline.profile_roofline, "profile_inference"),
    "serving_latency": (served.latency, "benchmark_serving"),
    "serving_energy": (served.energy, "benchmark_serving"),
    "serving_goodput": (served.goodput, "benchmark_serving"),
    "serving_roofs": (served.roofs, "benchmark_serving"),
    "train_profile": (training_steps.train_profile, "profile_training"),
    "llamacpp_energy_latency": (llamacpp.energy_vs_latency, "profile_llamacpp"),
    "llamacpp_backends": (llamacpp.metrics_comparison, "profile_llamacpp"),
    **{name: (llamacpp_ablations.figure_of(what), "profile_llamacpp") for what, name in LLAMACPP_ABLATIONS.items()},
    "llamacpp_power": (llamacpp.power_trace, "profile_llamacpp"),
    "llamacpp_race": (llamacpp.race_to_sleep, "profile_llamacpp"),
    "power_trace": (power.power_trace, "any metered job"),
}


def draw(results: Results, out: Path) -> dict[str, Any]:
    """Draw each figure into `out`; returns the index. What an earlier run drew and this one cannot is removed."""
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    for name, (figure_of, stage) in FIGURES.items():
        if stage in BRANCHES and not BRANCHES[stage](results.study):
            remove(out, name)  # the study does not ask for this branch: nobody misses its figures
            continue
        figure = figure_of(results)
        entry: dict[str, Any] = {"files": [], "made_from": stage}
        if figure is None:
            entry["reason"] = reason(results, name, stage)
            remove(out, name)
        else:
            entry |= describe(results, name, figure) | {"records": sources(results, name, stage)}
            entry["files"] = style.save(figure, out, name)
        if results.stale:
            entry["stale"] = sorted({found.setting for found in results.stale})
        index[name] = entry
    return index


def remove(out: Path, name: str) -> None:
    """Remove what an earlier run drew."""
    for kind in style.KINDS:
        (out / f"{name}.{kind}").unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the figures (default: from the study)")
    parser.add_argument("--allow-stale", action="store_true", help="use records made with other settings, and say so")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    out = args.out or layout.figures
    results = Results.load(study, layout, allow_stale=args.allow_stale)
    with naming(out):
        write_json(out / "index.json", draw(results, out))
    return 0


if __name__ == "__main__":
    cli.run(main)

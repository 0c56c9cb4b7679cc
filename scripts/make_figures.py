"""Draw every figure of a study from its records, as SVG and PNG: no GPU, no model, no measurement.

Writes index.json last: each figure with the kind of record that it was made from. A figure whose records do not exist
(yet) is left out and named there with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_json
from gainwatt.figures import accuracy, power, style, training, weights
from gainwatt.tables.results import Results

FIGURES = {
    "accuracy": (accuracy.accuracy, "evaluate_gsm8k"),
    "gain_survival": (accuracy.survival, "evaluate_gsm8k"),
    "training": (training.training, "train_grpo"),
    "layer_errors": (weights.layer_errors, "diagnose_weights"),
    "power_trace": (power.power_trace, "any metered job"),
}


def draw(results: Results, out: Path) -> dict[str, Any]:
    """Draw each figure into `out`; returns the index."""
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    for name, (figure_of, stage) in FIGURES.items():
        figure = figure_of(results)
        if figure is None:
            index[name] = {"files": [], "made_from": stage, "reason": f"no record of {stage} holds what it needs"}
        else:
            index[name] = {"files": style.save(figure, out, name), "made_from": stage}
    return index


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the figures (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    out = args.out or layout.figures
    write_json(out / "index.json", draw(Results.load(study, layout), out))
    return 0


if __name__ == "__main__":
    cli.run(main)

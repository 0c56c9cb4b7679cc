"""Energy against latency: what a correct answer costs in joules, and how long an item takes."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE, Cell, schemes, trained_variants, variants
from gainwatt.tables.cost import per_correct_answer
from gainwatt.tables.results import Results


def energy_latency(results: Results) -> Any | None:
    """Gross joules per correct answer over seconds per item, one point per cell; None where no joules were measured.

    Colour is the variant, the marker the scheme. Better is lower left.
    """
    points = []
    for row in per_correct_answer(results):
        cell = Cell(row["variant"], row["scheme"])
        record = results.measured(cell)
        if record is not None and row["gross_j_per_correct"] is not None:
            metrics = record["metrics"]
            points.append((cell, metrics["generate_s"] / metrics["num_examples"], row["gross_j_per_correct"]))
    if not points:
        return None
    study = results.study
    figure, axes = style.new(7.0, 4.9)
    for cell, seconds, joules in points:
        axes.plot(
            1000 * seconds, joules, style.marker(study, cell.scheme), color=style.colour(study, cell.variant), ms=8,
            mec="white", mew=0.8,
        )  # fmt: skip
    axes.set_xlim(0, 1.12 * max(1000 * seconds for _, seconds, _ in points))
    axes.set_ylim(0, 1.12 * max(joules for _, _, joules in points))
    axes.set_xlabel("generation time per item (ms, batch time / items)")
    axes.set_ylabel("gross energy per correct answer (J)")
    axes.set_title("Energy against latency, by cell")
    shown = {cell.variant for cell, _, _ in points}
    many = len(trained_variants(study)) > style.MANY
    names = [name for name in ([BASE] if many else variants(study)) if name in shown]
    handles = [style.handle(name, color=style.colour(study, name), marker="s", ls="", ms=7) for name in names]
    if many:
        label = f"{len(trained_variants(study))} trained variants"
        handles.append(style.handle(label, color=style.TRAINED_COLOURS[0], marker="s", ls="", ms=7))
    used = {cell.scheme for cell, _, _ in points}
    handles += [
        style.handle(name, color="#888888", marker=style.marker(study, name), ls="", ms=7)
        for name in schemes(study)
        if name in used
    ]
    style.legend_below(figure, handles, columns=4)
    return figure

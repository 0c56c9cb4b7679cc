"""Energy against latency: what a correct answer costs in joules, and how long an item takes."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import BASE, Cell, Study, schemes, trained_variants, variants
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
    alike: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for cell, seconds, joules in points:
        look = style.colour(study, cell.variant), style.marker(study, cell.scheme)
        alike.setdefault(look, []).append((1000 * seconds, joules))
    for (colour, marker), places in alike.items():
        axes.plot(*zip(*places, strict=True), ls="", marker=marker, color=colour, ms=8, mec="white", mew=0.8)
    axes.set_xlim(0, 1.12 * max(1000 * seconds for _, seconds, _ in points))
    axes.set_ylim(0, 1.12 * max(joules for _, _, joules in points))
    axes.set_xlabel("generation time per item (ms, batch time / items)")
    axes.set_ylabel("gross energy per correct answer (J)")
    axes.set_title("Energy against latency, by cell")
    style.legend_below(figure, _handles(study, [cell for cell, _, _ in points]), columns=4)
    return figure


def _handles(study: Study, cells: list[Cell]) -> list[Any]:
    """A colour for each variant (one for all trained ones where they are many), a marker for each scheme."""
    shown, used = {cell.variant for cell in cells}, {cell.scheme for cell in cells}
    trained = trained_variants(study)
    many = len(trained) > style.MANY
    names = [name for name in ([BASE] if many else variants(study)) if name in shown]
    looks = [(name, style.colour(study, name), "s") for name in names]
    if many:
        looks.append((f"{len(trained)} trained variants", style.TRAINED_COLOURS[0], "s"))
    looks += [(name, "#888888", style.marker(study, name)) for name in schemes(study) if name in used]
    return [style.handle(label, color=colour, marker=marker, ls="", ms=7) for label, colour, marker in looks]

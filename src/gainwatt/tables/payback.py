"""When training pays back: its joules and seconds against what it saves on each correct answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainwatt.record import Record
from gainwatt.study import BASE, Cell, schemes, trained_variants
from gainwatt.tables.cost import generation_energy
from gainwatt.tables.results import Results

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = dict[str, Any]
_QUANTITIES = ("gross_j", "net_j", "s")


def payback(results: Results) -> list[Row]:
    """Correct answers after which the training has paid back, per trained variant, scheme, and joules or seconds.

    A correct answer costs the base model c_0 and the trained one c_1 under the same scheme; a training that cost T has
    paid back after T / (c_0 − c_1) correct answers. Where the trained model's answer costs no less, it never does. The
    intervals resample the items, the same ones for both models, and hold T and the cost of a generated token fixed.
    """
    names = schemes(results.study)
    by_scheme: dict[str, list[Row]] = {scheme: [] for scheme in names}
    # By variant, as the resamples of the cells are reckoned; the table is by scheme.
    for variant in trained_variants(results.study):
        for scheme in names:
            if results.measured(Cell(BASE, scheme)) and results.measured(Cell(variant, scheme)):
                by_scheme[scheme] += [_row(results, variant, scheme, quantity) for quantity in _QUANTITIES]
    return [row for scheme in names for row in by_scheme[scheme]]


def _row(results: Results, variant: str, scheme: str, quantity: str) -> Row:
    cells = (Cell(BASE, scheme), Cell(variant, scheme))
    records = [results.evaluations[cell] for cell in cells]
    training, reason = _training(results.trainings.get(variant), quantity)
    totals = [_total(record, quantity) for record in records]
    correct = [record["metrics"]["correct"] for record in records]
    before, after = (
        None if total is None or right == 0 else total / right for total, right in zip(totals, correct, strict=True)
    )
    row: Row = {
        "variant": variant,
        "scheme": scheme,
        "quantity": quantity,
        "training": training,
        "per_correct_base": before,
        "per_correct_trained": after,
        "saved_per_correct": None if before is None or after is None else before - after,
        **dict.fromkeys(("saved_low", "saved_high", "payback_correct_answers", "payback_low", "payback_high")),
    }
    if before is None or after is None:
        return row | {"null_reason": _why(records, correct, quantity)}
    saved = _saved_draws(results, cells, totals)
    row |= _saved_interval(results, saved)
    if training is None:
        return row | {"null_reason": reason}
    if before <= after:
        return row | {"null_reason": "a correct answer of the trained model costs no less: it never pays back"}
    row["payback_correct_answers"] = training / (before - after)
    # The more is saved, the sooner it pays back; where the lower end saves nothing, it may never do.
    row["payback_low"] = training / row["saved_high"] if row["saved_high"] else None
    row["payback_high"] = training / row["saved_low"] if row["saved_low"] and row["saved_low"] > 0 else None
    certain = row["payback_high"] is not None
    return row | {"null_reason": None if certain else "the interval of what is saved includes zero: no upper end"}


def _training(record: Record | None, quantity: str) -> tuple[float | None, str | None]:
    """Cost of the whole training job, killed processes included, and why it is null."""
    if record is None or record["status"] != "ok":
        return None, "there is no record of the training"
    energy, resumed = record["energy"], record["metrics"].get("resumed_from_step")
    earlier = energy.get("earlier_segments") or {}
    key = "seconds" if quantity == "s" else quantity
    own = _seconds(record) if quantity == "s" else energy.get(quantity)
    if own is None:
        said = energy.get("null_reasons", {}).get(quantity) or "the meter gave no energy for the training"
        return None, f"training: {said}"
    if not resumed and not earlier:
        return own, None
    if earlier.get(key) is None:
        return None, f"training went on from step {resumed}: what the steps before it cost is not known"
    return own + earlier[key], None


def _seconds(record: Record) -> float:
    return float(sum(phase["seconds"] for phase in record["phases"] if phase["depth"] == 0))


def _total(record: Record, quantity: str) -> float | None:
    if quantity == "s":
        return float(record["metrics"]["generate_s"])
    gross, net, _ = generation_energy(record)
    return gross if quantity == "gross_j" else net


def _why(records: list[Record], correct: list[int], quantity: str) -> str:
    if 0 in correct:
        return "no correct answer"
    reasons = [generation_energy(record)[2] for record in records]
    said = next((reason for reason in reasons if reason), None)
    return said or f"the meter gave no {quantity} for a generation"


def _saved_draws(results: Results, cells: tuple[Cell, Cell], totals: list[float | None]) -> NDArray[np.float64]:
    """What is saved per correct answer in each resample; -inf or inf where a resample has no correct answer."""
    import numpy as np

    with np.errstate(divide="ignore"):
        drawn = []
        for cell, total in zip(cells, totals, strict=True):
            tokens, correct = results.resamples.of(cell)
            per_token = (total or 0.0) / float(sum(results.items[cell]["tokens"]))
            drawn.append(per_token * tokens / correct)
    before, after = drawn
    never = np.isinf(after)
    return np.asarray(np.where(never, -np.inf, before - np.where(never, 0, after)) if never.any() else before - after)


def _saved_interval(results: Results, drawn: NDArray[np.float64]) -> Row:
    import numpy as np

    confidence = results.study.statistics.confidence
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
    return {
        "saved_low": float(low) if np.isfinite(low) else None,
        "saved_high": float(high) if np.isfinite(high) else None,
    }

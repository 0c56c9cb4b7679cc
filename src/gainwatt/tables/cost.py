"""What the answers and the jobs cost: joules, seconds, tokens and dollars, each null with its reason where unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt.record import Record
from gainwatt.stats.ratio import Ratio, resampled_ratio
from gainwatt.study import Cell, evaluation_cells
from gainwatt.study.operations import Cost
from gainwatt.tables.results import Results, made_once

Row = dict[str, Any]
J_PER_KWH = 3.6e6


def phase_energy(record: Record, path: str) -> tuple[float | None, float | None, float]:
    """Gross joules, net joules and seconds of all occurrences of a phase in a record."""
    total = _phase(record, path)
    return total.get("gross_j"), total.get("net_j"), total.get("seconds", 0.0)


def _phase(record: Record, path: str) -> dict[str, Any]:
    return next((total for total in record["energy"].get("phase_totals", []) if total["path"] == path), {})


def energy_method(record: Record) -> str | None:
    """How the joules of a job were measured: `counter`, `integral`, or both where its devices differ."""
    return "+".join(sorted({d["method"] for d in record["energy"].get("devices", []) if d.get("method")})) or None


def energy_notes(record: Record, path: str) -> Row:
    """What a reader must know about the joules of a phase: how and of what they were measured, flags, why null."""
    gross, net, _ = phase_energy(record, path)
    return {
        "boundary": "+".join(record["energy"].get("boundary", [])) or None,
        "method": _phase(record, path).get("method") or energy_method(record),
        "flags": _marks(record, path),
        "null_reason": _energy_reason(record, gross, net, _phase(record, path)),
    }


def electricity_usd(joules: float | None, cost: Cost) -> float | None:
    """Price of the joules at the meter of the building: joules / 3.6e6 x PUE x price per kWh."""
    if joules is None or cost.electricity_usd_per_kwh is None:
        return None
    return joules / J_PER_KWH * cost.pue * cost.electricity_usd_per_kwh


@made_once
def per_correct_answer(results: Results) -> list[Row]:
    """Seconds, tokens, joules and dollars per correct answer of each cell, over the generation phase.

    The intervals are about other questions of the same kind: `tokens_per_correct` is a ratio of two sums over items,
    and tokens and right answers are resampled together. Seconds, joules and dollars are measured for the cell as a
    whole; their intervals hold seconds, joules and dollars per generated token fixed at what was measured, so that
    they say nothing about how much a second run of the same cell would differ.

    Net joules subtract the power of a board at rest, before this process held it, and so contain what holding it costs
    (an H200: 82 W at rest, 128 to 131 W held). Joules above loaded idle subtract the power after the work, with the
    model still loaded: what the work itself costs.
    """
    rows = []
    for cell in evaluation_cells(results.study):
        record = results.measured(cell)
        if record is not None:
            rows.append(_cost_row(results, cell, record))
    return rows


def _cost_row(results: Results, cell: Cell, record: Record) -> Row:
    metrics, correct = record["metrics"], record["metrics"]["correct"]
    gross, net, reason = generation_energy(record)
    above, no_above = above_loaded_idle(record, gross, phase_energy(record, "generate")[2])
    cost = results.study.cost
    rent = None if cost.machine_usd_per_h is None else metrics["generate_s"] / 3600 * cost.machine_usd_per_h
    totals = {
        "s_per_correct": metrics["generate_s"],
        "tokens_per_correct": metrics["generated_tokens"],
        "gross_j_per_correct": gross,
        "net_j_per_correct": net,
        "above_loaded_idle_j_per_correct": above,
        "electricity_usd_per_correct": electricity_usd(gross, cost),
        "machine_usd_per_correct": rent,
    }
    values = {name: None if total is None or correct == 0 else total / correct for name, total in totals.items()}
    tokens = _tokens_per_correct(results, cell)
    return {
        "variant": cell.variant,
        "scheme": cell.scheme,
        "correct": correct,
        **values,
        "throughput_tok_s": metrics["throughput_tok_s"],
        "batch_size": _batch_size(record["settings"]["effective"]),
        "boundary": "+".join(record["energy"].get("boundary", [])) or None,
        "method": _phase(record, "generate").get("method") or energy_method(record),
        "flags": _marks(record, "generate"),
        "null_reason": "no correct answer" if correct == 0 else reason,
        "above_loaded_idle_null_reason": "no correct answer" if correct == 0 else reason if gross is None else no_above,
        **{f"{name}_{end}": _scaled(value, tokens, end) for name, value in values.items() for end in ("low", "high")},
        "interval_null_reason": tokens.reason,
    }


def generation_energy(record: Record) -> tuple[float | None, float | None, str | None]:
    """Gross and net joules of generating all answers, and why they are null."""
    gross, net, _ = phase_energy(record, "generate")
    resumed = record["metrics"]["resumed_items"]
    if resumed:
        return None, None, f"{resumed} items were answered before the run was interrupted"
    return gross, net, _energy_reason(record, gross, net, _phase(record, "generate"))


def idle_w(record: Record, when: str) -> float | None:
    """Idle power `before` or `after` the work over all devices of a job, in watts; None where one has none."""
    watts = [device.get(f"idle_{when}_w") for device in record["energy"].get("devices", [])]
    return sum(watts) if watts and None not in watts else None


def above_loaded_idle(record: Record, gross: float | None, seconds: float) -> tuple[float | None, str | None]:
    """Joules of `seconds` above what the devices draw with all loaded and nothing to do, or None with the reason."""
    loaded = idle_w(record, "after")
    if gross is None:
        return None, "gross_j is null"
    if loaded is None:
        return None, "idle power after the work was not measured"
    above = gross - loaded * seconds
    return (above, None) if above >= 0 else (None, "the work drew less than the idle power after it")


def _tokens_per_correct(results: Results, cell: Cell) -> Ratio:
    items, (tokens, correct) = results.items[cell], results.resamples.of(cell)
    above, below = float(sum(items["tokens"])), float(sum(items["correct"]))
    return resampled_ratio(above, below, tokens, correct, confidence=results.study.statistics.confidence)


def _scaled(value: float | None, tokens: Ratio, end: str) -> float | None:
    """One end of the interval of `value`, which is proportional to the tokens per correct answer."""
    limit = tokens.low if end == "low" else tokens.high
    return None if value is None or limit is None or not tokens.estimate else value * limit / tokens.estimate


def _batch_size(effective: Row) -> int | None:
    """Answers generated at once: in a closed batch, or at most in a running one."""
    size = effective["batch_size"]
    return effective.get("max_num_seqs") if size is None else size


def _marks(record: Record, path: str) -> str | None:
    """Marks on the energy of a phase, or on its devices over the whole job."""
    energy = record["energy"]
    marks = {mark["flag"] for mark in energy.get("flags", [])}
    marks |= {
        mark for total in energy.get("phase_totals", []) if total["path"] == path for mark in total.get("flags", [])
    }
    return "; ".join(sorted(marks)) or None


def _energy_reason(record: Record, gross: float | None, net: float | None, total: dict[str, Any]) -> str | None:
    """Why gross energy, or net energy alone, is null: what the phase itself says (if it is one), else its job."""
    if net is not None:
        return None
    of_job = record["energy"].get("null_reasons", {})
    if gross is None:
        return str(of_job.get("gross_j") or total.get("reason") or "the meter gave no energy for this phase")
    return f"net energy: {total.get('net_reason') or of_job.get('net_j') or 'the record does not say why'}"


def energy_by_job(results: Results) -> list[Row]:
    """Every job of the study: seconds and joules in total, method, boundary, flags.

    `earlier_gross_j`: joules of processes of the same job that were killed, at least; they are not in `gross_j`.
    `idle_before_w` is what net energy subtracts; `idle_after_w` was drawn with the job's models still loaded.
    """
    rows = []
    for record in results.all_records():
        energy = record["energy"]
        rows.append(
            {
                "stage": record["stage"],
                "cell": Path(record["path"]).stem,
                "status": record["status"],
                "seconds": sum(phase["seconds"] for phase in record["phases"] if phase["depth"] == 0),
                "gross_j": energy.get("gross_j"),
                "net_j": energy.get("net_j"),
                "idle_before_w": idle_w(record, "before"),
                "idle_after_w": idle_w(record, "after"),
                "earlier_gross_j": (energy.get("earlier_segments") or {}).get("gross_j"),
                "boundary": "+".join(energy.get("boundary", [])) or None,
                "method": energy_method(record),
                "flags": "; ".join(sorted({mark["flag"] for mark in energy.get("flags", [])})) or None,
                "null_reason": _energy_reason(record, energy.get("gross_j"), energy.get("net_j"), {}),
            }
        )
    return rows

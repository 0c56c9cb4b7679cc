"""How the joules of a study were measured, what they cover, and what is to be known about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.flags import FLAG_TEXTS
from gainwatt.record import Record
from gainwatt.report.formats import is_number, joules, number, percent

BOUNDARY_TEXTS = {
    "gpu_board": "the GPU board (chip, memory, voltage regulators; not the host)",
    "cpu_package": "the CPU package",
    "dram": "main memory",
}
METHOD_TEXTS = {
    "counter": "energy counter of the device",
    "integral": "power integrated over time (trapezoid)",
    "scaled": "energy counter, scaled",
}


@dataclass
class EnergyFacts:
    """Facts as (name, text), marks as (mark, meaning, number of jobs), and reasons for nulls with their jobs."""

    measured: bool = False
    facts: list[tuple[str, str]] = field(default_factory=list)
    marks: list[tuple[str, str, int]] = field(default_factory=list)
    reasons: list[tuple[str, int]] = field(default_factory=list)


def energy_facts(records: Sequence[Record]) -> EnergyFacts:
    """Facts about the energy of all jobs of a study."""
    metered = [record["energy"] for record in records if is_number(record["energy"].get("gross_j"))]
    found = EnergyFacts(bool(metered))
    reasons: Counter[str] = Counter()
    for record in records:
        why = record["energy"].get("null_reasons", {})
        if not is_number(record["energy"].get("gross_j")):
            reasons[str(why.get("gross_j") or "no energy in the record")] += 1
        elif not is_number(record["energy"].get("net_j")):
            reasons["net energy: " + str(why.get("net_j") or "not known")] += 1
    found.reasons = sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
    if metered:
        found.facts = _facts(metered, len(records))
    texts: dict[str, str] = {}
    marks: Counter[str] = Counter()
    for record in records:
        of_job = {str(m["flag"]): str(m.get("text") or "") for m in record["energy"].get("flags", [])}
        marks.update(of_job.keys())
        texts |= of_job
    found.marks = [(name, FLAG_TEXTS.get(name, texts[name]), marks[name]) for name in sorted(marks)]
    return found


def _facts(blocks: Sequence[dict[str, Any]], jobs: int) -> list[tuple[str, str]]:
    devices = [device for block in blocks for device in block.get("devices", [])]
    boundaries = Counter(name for block in blocks for name in block.get("boundary", []))
    gross = sum(block["gross_j"] for block in blocks)
    nets = [block["net_j"] for block in blocks if is_number(block.get("net_j"))]
    facts = [
        ("in total", f"{joules(gross)} gross over {len(blocks)} of {jobs} jobs"),
        ("net", f"{joules(sum(nets))} above idle, over {len(nets)} jobs" if nets else "not known for any job"),
        ("boundary", "; ".join(BOUNDARY_TEXTS.get(name, name) for name in sorted(boundaries)) or "not recorded"),
        ("not in it", _outside(boundaries, len(blocks))),
    ]
    methods = Counter(METHOD_TEXTS.get(device.get("method"), str(device.get("method"))) for device in devices)
    if methods:
        facts.append(("method", "; ".join(f"{name} ({count} jobs)" for name, count in sorted(methods.items()))))
    for name, key, unit in (
        ("counter against integral", "relative_difference", "%"),
        ("idle power before the work", "idle_before_w", "W"),
        ("power limit", "power_limit_w", "W"),
        ("highest power", "max_w", "W"),
    ):
        values = [device[key] for device in devices if is_number(device.get(key))]
        if values:
            facts.append((name, _range(values, unit)))
    rates = [b["sampling"]["effective_hz"] for b in blocks if is_number(b.get("sampling", {}).get("effective_hz"))]
    if rates:
        facts.append(("sampled at", _range(rates, "Hz")))
    names = sorted({str(device["name"]) for device in devices if device.get("name")})
    return [*facts, ("devices", ", ".join(names))] if names else facts


def _outside(boundaries: Counter[str], jobs: int) -> str:
    missing = [text for name, text in BOUNDARY_TEXTS.items() if boundaries[name] < jobs]
    return "; ".join([*missing, "power supply, fans, disks, network, cooling of the building"])


def _range(values: Sequence[float], unit: str) -> str:
    def show(value: float) -> str:
        return percent(value, 2) if unit == "%" else number(value, 3)

    low, high = show(min(values)), show(max(values))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"

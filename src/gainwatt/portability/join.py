"""The sessions of several machines in one table, and whether a scheme does the same to all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.errors import InputError
from gainwatt.portability.machines import Session
from gainwatt.portability.values import (
    UNITS,
    Entry,
    Read,
    read_evaluation,
    read_inference,
    read_training,
    unquantized,
)
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
FP16 = "fp16"
DIFFERS, SAME, UNTESTED = "differs", "no difference shown", "not tested"
_MACHINE_COLUMNS = ("machine", "folder", "hardware", "software")


@dataclass
class Joined:
    """Everything that was read: sessions in order, and the entries of each."""

    sessions: list[Session]
    entries: list[tuple[Session, Entry]]
    boundaries: dict[str, str]
    """Stage -> the energy boundaries, where machines differ in it; their joules are refused."""


def join(sessions: Sequence[Session], baseline: str | None = None) -> Joined:
    """Read every session. Raises InputError where machines measured different things, naming what differs.

    `baseline` is the unquantized scheme that evaluations and training refer to; None: fp16, or else the first one that
    all machines have.
    """
    reads: list[Read] = []
    for session in sessions:
        read = read_inference(session.of("profile_inference"))
        for stage, reader in (("profile_training", read_training), ("evaluate_gsm8k", read_evaluation)):
            records = session.of(stage)
            if records:
                more = reader(records, baseline or _baseline(sessions, stage))
                read.entries += more.entries
                read.definitions |= more.definitions
        reads.append(read)
    _refuse_mixed(sessions, reads)
    entries = [(session, entry) for session, read in zip(sessions, reads, strict=True) for entry in read.entries]
    return Joined(list(sessions), entries, _mixed_boundaries(entries))


def _baseline(sessions: Sequence[Session], stage: str) -> str:
    """fp16 where any machine has it, else the first unquantized scheme that all machines with the stage have."""
    found = [unquantized(session.of(stage)) for session in sessions if session.of(stage)]
    if any(FP16 in names for names in found):
        return FP16
    common = [name for name in found[0] if all(name in names for names in found)]
    return common[0] if common else FP16


def _refuse_mixed(sessions: Sequence[Session], reads: Sequence[Read]) -> None:
    lines = []
    for stage in sorted({stage for read in reads for stage in read.definitions}):
        for name in dict.fromkeys(name for read in reads for name in read.definitions.get(stage, {})):
            told = {
                session.label: read.definitions[stage][name]
                for session, read in zip(sessions, reads, strict=True)
                if name in read.definitions.get(stage, {})
            }
            if len({value for values in told.values() for value in values}) > 1:
                said = "; ".join(f"{label}: {' and '.join(map(_brief, values))}" for label, values in told.items())
                lines.append(f"  {stage}: {name}: {said}")
    if lines:
        raise InputError(
            "the records measure different things and cannot stand in one table:\n" + "\n".join(lines),
            "run the same study file on every machine, or leave folders out",
        )


def _brief(value: str) -> str:
    return value if len(value) <= 90 else f"{value[:87]}..."


def _mixed_boundaries(entries: Sequence[tuple[Session, Entry]]) -> dict[str, str]:
    """Stages whose machines metered different parts of themselves. Machines without any meter have no joules anyway."""
    found: dict[str, dict[str, None]] = {}
    for _, entry in entries:
        if entry.boundary != "none":
            found.setdefault(entry.stage, {})[entry.boundary] = None
    return {stage: ", ".join(kinds) for stage, kinds in found.items() if len(kinds) > 1}


def machine_rows(joined: Joined) -> list[Row]:
    """One row per session: what it ran on."""
    return [
        dict(
            zip(
                _MACHINE_COLUMNS,
                (session.label, session.folder, _text(session.hardware), _text(session.software)),
                strict=True,
            )
        )
        for session in joined.sessions
    ]


def _text(facts: dict[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in facts.items())


def rows(joined: Joined) -> list[Row]:
    """One row per quantity of each cell and machine: value, the machine's own baseline, and their ratio."""
    return [_row(joined, session, entry) for session, entry in joined.entries]


def _row(joined: Joined, session: Session, entry: Entry) -> Row:
    refused = _refused(joined, entry)
    found, ratio = entry.found, entry.ratio
    return {
        "stage": entry.stage,
        "workload": entry.workload,
        "arm": entry.arm,
        "quantity": entry.quantity,
        "unit": UNITS[entry.quantity],
        "machine": session.label,
        "n": found.n if found is not None else None,
        "value": found.mean if found is not None else None,
        "value_low": found.low if found is not None else None,
        "value_high": found.high if found is not None else None,
        "baseline": entry.baseline,
        "baseline_value": entry.below,
        "ratio": ratio.estimate if ratio is not None and not refused else None,
        "ratio_low": ratio.low if ratio is not None and not refused else None,
        "ratio_high": ratio.high if ratio is not None and not refused else None,
        "status": "refused" if refused else entry.status,
        "note": refused or entry.note or None,
        "boundary": entry.boundary,
    }


def _refused(joined: Joined, entry: Entry) -> str:
    if not entry.energy or entry.stage not in joined.boundaries:
        return ""
    return f"the machines metered different parts of themselves: {joined.boundaries[entry.stage]}"


def differences(joined: Joined) -> list[Row]:
    """For every cell of two machines or more: ratio on the second over ratio on the first, and whether they differ.

    The intervals of two ratios are independent and, on the logarithmic scale, symmetric: that of their quotient is the
    root of the sum of squares of their half-widths. `differs`: it excludes 1. Each pair is tested on its own.
    """
    by_key: dict[tuple[str, ...], list[tuple[Session, Entry]]] = {}
    for session, entry in joined.entries:
        if not _refused(joined, entry):
            by_key.setdefault(entry.key, []).append((session, entry))
    made = []
    for found in by_key.values():
        (first, reference), *others = found
        made += [_difference(first, reference, second, entry) for second, entry in others]
    return made


def _difference(first: Session, a: Entry, second: Session, b: Entry) -> Row:
    row: Row = {
        "stage": a.stage, "workload": a.workload, "arm": a.arm, "quantity": a.quantity, "baseline": a.baseline,
        "machine": first.label, "other": second.label, "ratio": None, "ratio_other": None, "quotient": None,
        "quotient_low": None, "quotient_high": None, "verdict": UNTESTED,
    }  # fmt: skip
    if a.ratio is None or b.ratio is None or not a.ratio.estimate or not b.ratio.estimate:
        return row
    row |= {"ratio": a.ratio.estimate, "ratio_other": b.ratio.estimate, "quotient": b.ratio.estimate / a.ratio.estimate}
    if not all((a.ratio.low, a.ratio.high, b.ratio.low, b.ratio.high)):
        return row
    middle = math.log(row["quotient"])
    half = math.hypot(_half(a.ratio.low, a.ratio.high), _half(b.ratio.low, b.ratio.high))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return row | {"quotient_low": low, "quotient_high": high, "verdict": SAME if low <= 1 <= high else DIFFERS}


def _half(low: float | None, high: float | None) -> float:
    assert low is not None  # noqa: S101 - the caller has looked
    assert high is not None  # noqa: S101
    return (math.log(high) - math.log(low)) / 2


def as_markdown(joined: Joined) -> str:
    """What a person reads first: the machines, the ratios side by side, and which differ."""
    labels = [session.label for session in joined.sessions]
    grid: dict[tuple[str, ...], Row] = {}
    for row in rows(joined):
        key = (row["stage"], row["workload"], row["arm"], row["quantity"], row["baseline"])
        line = grid.setdefault(key, dict(zip(("stage", "workload", "arm", "quantity", "against"), key, strict=True)))
        line[row["machine"]] = _ratio_text(row)
    for line in grid.values():
        for label in labels:
            line.setdefault(label, "not measured")
    found = differences(joined)
    tested = [row for row in found if row["verdict"] != UNTESTED]
    differ = [row for row in tested if row["verdict"] == DIFFERS]
    parts = [
        "# The same profile on several machines\n",
        f"{len(differ)} of {len(tested)} ratios that could be compared differ between machines (each interval on its "
        "own, 95 %).\n" if tested else "No ratio has an interval on two machines: nothing can be compared.\n",
        "## Machines\n", to_markdown(machine_rows(joined), _MACHINE_COLUMNS),
        "## Ratio to the machine's own baseline [95 % interval]\n",
        to_markdown(list(grid.values()), ["stage", "workload", "arm", "quantity", "against", *labels]),
        _reasons(joined),
    ]  # fmt: skip
    if joined.boundaries:
        said = "; ".join(f"{stage}: {kinds}" for stage, kinds in joined.boundaries.items())
        parts.append(f"**Joules refused:** the machines metered different parts of themselves ({said}).\n")
    if differ:
        names = ("stage", "workload", "arm", "quantity", "machine", "ratio", "other", "ratio_other", "quotient",
                 "quotient_low", "quotient_high")  # fmt: skip
        parts += ["## Ratios that differ\n", to_markdown(differ, names)]
    return "\n".join(parts)


def _reasons(joined: Joined) -> str:
    """Why a ratio is missing: each reason once for a machine, with the quantities that it is about."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows(joined):
        if row["ratio"] is None:
            what = f"{row['stage']} {row['arm']} {row['quantity']}"
            found.setdefault((row["machine"], str(row["note"] or row["status"])), {})[what] = None
    lines = [f"- {machine}: {', '.join(what)}: {reason}\n" for (machine, reason), what in found.items()]
    return "Not known:\n\n" + "".join(lines) if lines else ""


def _ratio_text(row: Row) -> str:
    if row["ratio"] is None:
        return "–" if row["status"] == "ok" else str(row["status"])
    low, high = row["ratio_low"], row["ratio_high"]
    if low is None and high is None:
        return f"{row['ratio']:.3g}"
    # One end may be open: that of a baseline with so few right answers that some resamples have none.
    return f"{row['ratio']:.3g} [{'?' if low is None else f'{low:.3g}'}, {'?' if high is None else f'{high:.3g}'}]"

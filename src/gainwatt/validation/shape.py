"""Whether the parts of a record have the shape that every reader relies on."""

from __future__ import annotations

from typing import Any

from gainwatt.record import Record


def misshapen(record: Record) -> str | None:
    """The first part of `record` that has another shape than a record's, in words; None where all is well."""
    for name in ("inputs", "outputs"):
        for key, entry in record[name].items():
            if not isinstance(entry, dict):
                return f"{name}.{key} is no mapping"
    if not all(isinstance(value, str | int) for value in record["cell"].values()):
        return "cell holds a value that is neither text nor a number"
    for where, value, kind in _blocks(record):
        if value is not None and not isinstance(value, kind):
            return f"{where} is no {'list' if kind is list else 'mapping'}"
        if kind is list and not all(isinstance(entry, dict) for entry in (value if isinstance(value, list) else ())):
            return f"{where} holds an entry that is no mapping"
    for key in ("path", "depth", "seconds"):
        if any(key not in entry for entry in (*record["phases"], *record["energy"].get("phase_totals", ()))):
            return f"a phase has no {key!r}"
    return None


def _blocks(record: Record) -> list[tuple[str, Any, type]]:
    energy, environment = record["energy"], record["environment"]
    blocks: list[tuple[str, Any, type]] = [("phases", record["phases"], list)]
    blocks += [(f"energy.{name}", energy.get(name), list) for name in ("devices", "phase_totals", "flags")]
    blocks += [(f"energy.{name}", energy.get(name), dict) for name in ("by_boundary", "null_reasons")]
    blocks += [(f"environment.{name}", environment.get(name), dict) for name in ("packages", "git")]
    return blocks

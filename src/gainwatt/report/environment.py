"""Machine and software of the records, and where they are not the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.record import Record

_NAMES = {
    "cpu_cores": "CPU cores",
    "cpu": "CPU",
    "memory_mib": "main memory (MiB)",
    "platform": "platform",
    "python": "Python",
    "threads": "threads (OMP_NUM_THREADS)",
    "visible_devices": "CUDA_VISIBLE_DEVICES",
    "git.commit": "commit of the code",
    "git.changed": "code changed since that commit",
    "gpus": "GPUs",
}
_ORDER = ("GPU", "CPU", "main memory", "platform", "Python", "commit", "code")
_UNITS = {"_mib": "MiB", "_mhz": "MHz", "_w": "W", "_c": "°C", "_j": "J", "_s": "s"}


@dataclass
class Fact:
    """One property with its values; each value with the stages and the number of records that have it."""

    name: str
    values: list[tuple[str, list[str], int]] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether the records disagree."""
        return len(self.values) > 1


def environment_facts(records: Sequence[Record]) -> list[Fact]:
    """Every property of the records' environments in a fixed order, packages last."""
    seen: dict[str, Counter[tuple[str, str]]] = {}
    for record in records:
        for name, value in _flat(record["environment"]):
            seen.setdefault(name, Counter())[value, record["stage"]] += 1
    facts = []
    for name in sorted(seen, key=_order):
        by_value: dict[str, dict[str, int]] = {}
        for (value, stage), count in sorted(seen[name].items()):
            by_value.setdefault(value, {})[stage] = count
        values = [(value, sorted(stages), sum(stages.values())) for value, stages in by_value.items()]
        facts.append(Fact(name, sorted(values, key=lambda entry: (-entry[2], entry[0]))))
    return facts


def _order(name: str) -> tuple[int, str]:
    place = next((i for i, start in enumerate(_ORDER) if name.startswith(start)), len(_ORDER))
    return (len(_ORDER) + 1 if name.startswith("package ") else place), name


def _flat(environment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in environment.items():
        if key == "packages" and isinstance(value, dict):
            for name, version in value.items():
                yield f"package {name}", str(version)
        elif key == "gpus" and isinstance(value, list):
            yield "GPUs", str(len(value))
            for name, inner in sorted(_gpus(value).items()):
                yield name, inner
        elif isinstance(value, dict):
            for name, inner in value.items():
                yield _NAMES.get(f"{key}.{name}", f"{key} {name}"), _text(inner)
        else:
            yield _NAMES.get(key, key.replace("_", " ")), _text(value)


def _gpus(gpus: list[Any]) -> dict[str, str]:
    """Each property of the GPUs: one value where all agree, else all in order."""
    found: dict[str, list[str]] = {}
    for gpu in gpus:
        for key, value in gpu.items() if isinstance(gpu, dict) else ():
            if key not in ("index", "uuid"):
                found.setdefault(_gpu_name(key), []).append(_text(value))
    return {name: texts[0] if len(set(texts)) == 1 else ", ".join(texts) for name, texts in found.items()}


def _gpu_name(key: str) -> str:
    for suffix, unit in _UNITS.items():
        if key.endswith(suffix):
            return f"GPU {key.removesuffix(suffix).replace('_', ' ')} ({unit})"
    return f"GPU {key.replace('_', ' ')}"


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return {True: "yes", False: "no"}.get(value, "") if isinstance(value, bool) else str(value)

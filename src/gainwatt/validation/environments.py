"""Were the cells that get compared measured on the same machine with the same software?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, listed, number, whole_study
from gainwatt.validation.findings import ERROR, INFO, WARNING, Severity

# What differs -> how bad it is. Another board or limit makes seconds and joules of another machine; software may.
_KINDS: tuple[tuple[str, Severity], ...] = (
    ("GPU model", ERROR), ("number of GPUs", ERROR), ("power limit", ERROR), ("energy boundary", ERROR),
    ("driver", WARNING), ("CPU", WARNING), ("CPU cores", WARNING), ("git commit", WARNING), ("CPU threads", INFO),
    ("Python", INFO), ("kernel", INFO), ("GPU board", INFO),
)  # fmt: skip
# Packages that compute what is measured; another version of any other is worth knowing only.
_COMPUTING = {
    "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "llmcompressor", "compressed-tensors", "vllm",
    "tokenizers", "autoawq", "gptqmodel",
}  # fmt: skip


def facts(record: Record) -> dict[str, Any]:
    """What identifies machine and software of a record; a fact that it does not state is absent."""
    environment, energy = record["environment"], record["energy"]
    found: dict[str, Any] = {
        "CPU": environment.get("cpu"),
        "CPU cores": environment.get("cpu_cores"),
        "CPU threads": environment.get("threads"),
        "Python": environment.get("python"),
        "kernel": environment.get("platform"),
        "git commit": (environment.get("git") or {}).get("commit"),
        "energy boundary": "+".join(energy.get("boundary") or ()) or None,
    }
    used = [device for device in energy.get("devices") or () if device.get("boundary") == "gpu_board"]
    gpus = environment.get("gpus")
    if used:
        found["GPU model"] = "+".join(sorted({str(device.get("name")) for device in used}))
        found["number of GPUs"] = len(used)
        limits = {number(device.get("power_limit_w")) for device in used}
        found["power limit"] = " and ".join(f"{limit:g} W" for limit in sorted(w for w in limits if w is not None))
    elif isinstance(gpus, list):
        found["GPU model"] = "+".join(sorted({str(gpu.get("name")) for gpu in gpus}))
        found["number of GPUs"] = len(gpus)
    elif isinstance(gpus, str):
        found["GPU model"] = "no GPU"
    drivers = {str(gpu.get("driver")) for gpu in gpus} if isinstance(gpus, list) else set()
    found["driver"] = "+".join(sorted(drivers)) or None
    found |= {f"package {name}": version for name, version in (environment.get("packages") or {}).items()}
    return {name: value for name, value in found.items() if value not in (None, "")}


def board(record: Record) -> dict[str, str]:
    """Which boards of their kind were measured. Two of one model differ in their joules by a few percent."""
    devices = record["energy"].get("devices") or ()
    named = {str(device["uuid"]) for device in devices if device.get("boundary") == "gpu_board" and device.get("uuid")}
    return {"GPU board": "+".join(sorted(named))} if named else {}


def compared(study: Collected) -> dict[str, list[Record]]:
    """Records whose numbers stand beside each other: those of one stage, for quantization of one scheme."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for stage in study.stages:
        for record in study.of(stage):
            scheme = f" by {record['cell'].get('scheme')}" if stage == "quantize" else ""
            groups[f"{stage}{scheme}"].append(record)
    return groups


@whole_study(ERROR, source="equal machines and software within what a table compares")
def one_environment(study: Collected) -> Iterator[Problem]:
    """Cells that get compared ran on one kind of machine (else an error) with one set of software (else a warning)."""
    for group, records in compared(study).items():
        stated = [(record["file"], facts(record) | board(record)) for record in records]
        names = sorted({name for _, found in stated for name in found})
        severities = dict(_KINDS)
        for name in names:
            kind = name.removeprefix("package ")
            severity = severities.get(name) or (WARNING if kind in _COMPUTING else INFO)
            values = {file: json.dumps(found.get(name, "not stated")) for file, found in stated}
            yield from _mixed(group, name, values, severity)


def _mixed(group: str, name: str, values: dict[str, str], severity: Severity) -> Iterator[Problem]:
    counted = Counter(values.values())
    if len(counted) < 2:
        return
    usual = max(counted, key=lambda value: (counted[value], value))
    odd = sorted(file for file, value in values.items() if value != usual)
    told = "; ".join(f"{_plain(value)} ({n} of {len(values)})" for value, n in sorted(counted.items()))
    what = f"{group} mixes {name}: {told}; unlike the most: {', '.join(listed(odd))}"
    hint = "run the odd ones again on the same machine with the same environment, or do not compare them"
    yield Problem(what, hint if severity != INFO else "", severity, odd[0])


def _plain(value: str) -> str:
    return str(json.loads(value))


@whole_study(WARNING, source="git status of the code when the job ran")
def committed_code(study: Collected) -> Iterator[Problem]:
    """The code that measured was committed: a changed file cannot be found again."""
    dirty = [r["file"] for r in study.records if (r["environment"].get("git") or {}).get("changed") is True]
    if dirty:
        what = f"{len(dirty)} of {len(study.records)} records were made with changed files: {', '.join(listed(dirty))}"
        yield Problem(what, "commit the changes and measure again before publishing", file=dirty[0])

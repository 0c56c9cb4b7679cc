"""Which machine made a record, told from its environment block."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gainwatt.comparison.sides import read_side
from gainwatt.environment import gpus_of
from gainwatt.errors import InputError
from gainwatt.record import Record
from gainwatt.validation.environments import facts

STAGES = ("profile_inference", "profile_training", "evaluate_gsm8k")
_HARDWARE = ("GPU model", "number of GPUs", "power limit", "CPU", "CPU cores")
NO_GPU = "no GPU"
_SOFTWARE = ("driver", "package torch", "package transformers", "package bitsandbytes")


@dataclass
class Session:
    """The records that one machine made in one results folder; `label` names it in tables and figures."""

    label: str
    folder: str
    hardware: dict[str, Any]
    software: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def of(self, stage: str) -> list[Record]:
        """The records of a stage."""
        return [record for record in self.records if record["stage"] == stage]


def hardware(record: Record) -> dict[str, Any]:
    """What makes two machines different: boards, their number and power limit, processor and its cores.

    From the environment block alone, so that a record whose meter failed is of the same machine as the others.
    """
    environment = record["environment"]
    gpus = gpus_of(environment)
    found: dict[str, Any] = {"CPU": environment.get("cpu"), "CPU cores": environment.get("cpu_cores")}
    if gpus:
        found["GPU model"] = "+".join(sorted({str(gpu.get("name")) for gpu in gpus}))
        found["number of GPUs"] = len(gpus)
        limits = sorted({float(gpu["power_limit_w"]) for gpu in gpus if gpu.get("power_limit_w") is not None})
        found["power limit"] = " and ".join(f"{limit:g} W" for limit in limits)
    elif environment.get("gpus") is not None:
        found["GPU model"] = NO_GPU
    return {name: found[name] for name in _HARDWARE if found.get(name) not in (None, "")}


def read_sessions(arguments: list[str]) -> list[Session]:
    """One session for each machine in each folder, in the order of the command line.

    A folder that was filled by several machines gives several sessions. Raises InputError where a folder holds no
    record of `STAGES`, where a record does not name its machine, or where all records are of one machine and folder.
    """
    found: dict[tuple[str, str], Session] = {}
    for argument in arguments:
        side = read_side(argument)
        own = [record for record in side.records if record["stage"] in STAGES]
        if not own:
            raise InputError(
                f"{argument} holds no record of {', '.join(STAGES)}",
                "run a study with the section profile or train_profile, or an evaluation, on that machine",
            )
        for record in own:
            known = hardware(record)
            if not known:
                raise InputError(f"{record['path']} does not say which machine made it", "measure it again")
            key = (str(sorted(known.items())), str(side.folder.resolve()))
            session = found.setdefault(key, Session(_name(known), argument, known))
            session.records.append(record)
    sessions = list(found.values())
    if len(sessions) < 2:
        raise InputError(
            f"all records are of one machine ({sessions[0].label}) and one folder",
            "give the results folders of at least two machines, or two sessions of one",
        )
    _tell_apart(sessions)
    for session in sessions:
        session.software = _software(session.records)
    return sessions


def _name(known: dict[str, Any]) -> str:
    """Board and power limit; on a machine without one the processor and its cores."""
    board = known.get("GPU model")
    if board in (None, NO_GPU):
        return f"{known.get('CPU', 'a CPU')}, {known.get('CPU cores', '?')} cores"
    count = f"{known['number of GPUs']} × " if known.get("number of GPUs", 1) > 1 else ""
    return f"{count}{board}" + (f", {known['power limit']}" if known.get("power limit") else "")


def _tell_apart(sessions: list[Session]) -> None:
    """Add the processor, then the folder, to labels that several sessions share."""
    for more in (
        lambda session: f"{session.hardware.get('CPU', 'a CPU')}, {session.hardware.get('CPU cores', '?')} cores",
        lambda session: Path(session.folder).name,
        lambda session: session.folder,
    ):
        labels = [session.label for session in sessions]
        for session in sessions:
            if labels.count(session.label) > 1 and more(session) not in session.label:
                session.label = f"{session.label} ({more(session)})"


def _software(records: list[Record]) -> dict[str, str]:
    """Driver and versions that compute; several where the records disagree."""
    found = {}
    for name in _SOFTWARE:
        values = sorted({str(value) for value in (facts(record).get(name) for record in records) if value})
        if values:
            found[name] = " and ".join(values)
    return found

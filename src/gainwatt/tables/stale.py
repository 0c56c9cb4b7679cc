"""Records that were made with other settings than the study has now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.study import Study

_SHOWN = 5


@dataclass(frozen=True)
class Stale:
    """One setting in which a record and the study differ. `recorded` is None where the record does not know it.

    `edited`: the record has the hash of the study's settings, so that somebody changed the value afterwards.
    """

    path: str
    setting: str
    recorded: Any
    wanted: Any
    edited: bool = False

    def __str__(self) -> str:
        was = "is not in the record" if self.recorded is None else f"was {self.recorded!r}"
        return f"{self.path}: {self.setting} {was}, and the study says {self.wanted!r}"


class Freshness:
    """Compares records with one study; what the study says of a stage is worked out once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._stages: dict[str, tuple[str, dict[str, Any]]] = {}

    def differences(self, record: Record) -> list[Stale]:
        """The settings of `record` (read, with its `path`) that the study now gives another value.

        A setting that the record does not know, since it was made before the setting existed, counts only where the
        study gives it another value than the default.
        """
        stage = record["stage"]
        if stage not in self._stages:
            self._stages[stage] = (self._study.settings_sha256(stage), self._study.settings(stage))
        sha256, wanted = self._stages[stage]
        same = record["inputs"].get("settings", {}).get("sha256") == sha256
        if same and all(record["settings"].get(key) == value for key, value in wanted.items()):
            return []
        return [Stale(record["path"], *found, edited=same) for found in _compare("", record["settings"], wanted)]


def refuse(stale: list[Stale]) -> None:
    """Raise RecordError that names the records and settings, where there are any."""
    if not stale:
        return
    lines = [f"  {found}" for found in stale[:_SHOWN]]
    if len(stale) > _SHOWN:
        lines.append(f"  and {len(stale) - _SHOWN} more")
    some = {found.setting: found.recorded for found in stale[:_SHOWN]}
    back = " ".join(f"--set {setting}={value}" for setting, value in some.items() if value is not None)
    raise RecordError(
        f"{len({found.path for found in stale})} record(s) were made with other settings than the study has now:\n"
        + "\n".join(lines),
        "run the study again"
        + (f", or give the settings that they were made with ({back})" if back else "")
        + ", or let make_tables.py and make_figures.py mark them: --allow-stale",
    )


def _compare(name: str, recorded: Any, wanted: Any) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(recorded, dict) and isinstance(wanted, dict)):
        if recorded != wanted:
            yield name, recorded, wanted
        return
    for key, value in wanted.items():
        inner = f"{name}.{key}" if name else key
        if key in recorded:
            yield from _compare(inner, recorded[key], value)
        elif value != _default(inner):
            yield inner, None, value


@cache
def _default(dotted: str) -> Any:
    """The default of a setting as a plain JSON value; None where it has none, too."""
    section: type[BaseModel] = Study
    *parents, last = dotted.split(".")
    for name in parents:
        field = section.model_fields.get(name)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return None
        section = inner
    field = section.model_fields.get(last)
    if field is None or field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value

"""The settings of a study, each with whether the study gives it or it is a default."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from gainwatt.record import text_sha256
from gainwatt.study import Study

Setting = tuple[str, str, bool]
"""Name, value as text, whether the study gives it."""


def settings_groups(study: Study) -> list[tuple[str, list[Setting]]]:
    """Section -> its settings in the study's order; what stands at the top comes first, as `study`."""
    top: list[Setting] = []
    groups: list[tuple[str, list[Setting]]] = []
    for name in type(study).model_fields:
        value = getattr(study, name)
        if isinstance(value, BaseModel):
            groups.append((name, _flat(value, "")))
        else:
            top.append((name, _text(value), name in study.model_fields_set))
    return [("study", top), *groups]


def _flat(section: BaseModel, before: str) -> list[Setting]:
    found: list[Setting] = []
    for name in type(section).model_fields:
        value: Any = getattr(section, name)
        if isinstance(value, BaseModel):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((before + name, _text(value), name in section.model_fields_set))
    return found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def settings_sha256(study: Study) -> str:
    """SHA-256 of every setting: the report shows them all, so that any change makes it anew."""
    return text_sha256(study.model_dump_json())

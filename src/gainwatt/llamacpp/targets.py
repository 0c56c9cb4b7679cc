"""What the rules of the llama.cpp profile ask of a study: their inputs and outputs. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path

from gainwatt.llamacpp.arms import SESSION, arms_of
from gainwatt.study import BASE, Layout, Study
from gainwatt.study.llamacpp import SUITES
from gainwatt.study.model import is_hub


def base_manifest(study: Study, layout: Layout) -> list[str]:
    """The base model, where the files are made of it."""
    wanted = study.llamacpp is not None and study.llamacpp.source == "base"
    return [str(layout.manifest(BASE))] if wanted else []


def local_files(study: Study) -> list[str]:
    """The GGUF file that the study names; what lies in a folder is looked for by the script."""
    section = study.llamacpp
    if section is None or section.source == "base" or is_hub(section.source) or not section.source.endswith(".gguf"):
        return []
    return [section.source]


def suite_files(study: Study) -> list[str]:
    """Files with prompts and templates."""
    if study.llamacpp is None:
        return []
    named = [name for name in study.llamacpp.suites if name not in SUITES]
    return named + [entry.file for entry in study.llamacpp.templates or () if entry.file is not None]


def arm_records(study: Study, layout: Layout) -> list[str]:
    """The record of every arm."""
    arms = [] if study.llamacpp is None else arms_of(study.llamacpp)
    return [str(layout.record("profile_llamacpp", arm.name)) for arm in arms if arm.name != SESSION]


def downloads(study: Study, layout: Layout) -> list[Path]:
    """What must be at hand before the rules run on machines without internet."""
    hub = study.llamacpp is not None and is_hub(study.llamacpp.source)
    return [layout.gguf / "files.json"] if hub else []


def stages_without_base(study: Study) -> set[str]:
    """Stages of this profile that need neither data nor base model; none where the files are made of the base."""
    made = study.llamacpp is not None and study.llamacpp.source == "base"
    return set() if made else {"fetch_gguf", "profile_llamacpp"}

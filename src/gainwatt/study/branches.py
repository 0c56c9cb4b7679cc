"""The optional branches of a study: for each of their stages, the records that the study asks for.

A branch that is hooked in here is run, collected by the tables, expected by the validator and counted by the preview.
A study without the branch's section asks for none of its records.
"""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.llamacpp import arms as llamacpp
from gainwatt.study import heads
from gainwatt.study.model import Study
from gainwatt.study.profiling_cells import STAGE as PROFILE
from gainwatt.study.profiling_cells import group_names
from gainwatt.study.serving_cells import STAGE as SERVING
from gainwatt.study.serving_cells import grid_names, part_names
from gainwatt.study.train_profile import STAGE as TRAIN_PROFILE
from gainwatt.study.train_profile import profiled_bases

BRANCHES: dict[str, Callable[[Study], list[str]]] = {
    SERVING: grid_names,
    PROFILE: group_names,
    TRAIN_PROFILE: profiled_bases,
    "score_heads": heads.score_names,
    "prune_heads": heads.prune_names,
    "fetch_gguf": llamacpp.file_record_names,
    "profile_llamacpp": llamacpp.record_names,
}
"""Stage -> names of the records (file stems) that a study asks for."""

KINDS: dict[str, str] = {
    SERVING: "serve",
    PROFILE: "profile",
    TRAIN_PROFILE: "train_profile",
    "score_heads": "heads",
    "prune_heads": "heads",
    "fetch_gguf": "llamacpp",
    "profile_llamacpp": "llamacpp",
}
"""Stage -> what its rule asks of the machine: a key of the study's section `resources`."""

ONE_JOB: dict[str, str] = {"profile_llamacpp": llamacpp.SESSION}
"""Stage whose rule runs once and makes all of its records -> name of the record that tells of the whole run."""

PARTS: dict[str, Callable[[Study], list[str]]] = {SERVING: part_names}
"""Stage -> names of further records that its rule writes on the way to the declared one, so that a killed run goes on
with what is left. Snakemake does not know them: it would remove them before it starts the rule again."""


def branch_records(study: Study) -> list[tuple[str, str]]:
    """(stage, name) of every record that the study's optional branches ask for."""
    return [(stage, name) for stage, names in BRANCHES.items() for name in names(study)]


def part_records(study: Study) -> list[tuple[str, str]]:
    """(stage, name) of every record that a rule writes beside the one that it declares."""
    return [(stage, name) for stage, names in PARTS.items() for name in names(study)]

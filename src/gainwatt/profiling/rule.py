"""What the rule profile_inference asks of a study. Parsing a Snakefile imports this module."""

from __future__ import annotations

import re
import sys

from gainwatt.study import Layout, Study
from gainwatt.study.profiling_cells import find_group, group_names
from gainwatt.workflow import find_interpreter, leased


def group_pattern(study: Study) -> str:
    """Regular expression of the names of all groups; of no name where the study has none."""
    return "|".join(map(re.escape, group_names(study))) or "no-group"


def manifests(study: Study, layout: Layout, group: str) -> list[str]:
    """The checkpoints that a group loads."""
    found = find_group(study, group)
    return list(dict.fromkeys(str(layout.manifest(found.variant, arm.scheme)) for arm in found.arms))


def environment(study: Study, group: str) -> str:
    """The environment that a group runs in."""
    return find_group(study, group).environment


def python(study: Study, group: str) -> str:
    """The interpreter of that environment, with GPUs of its own where the rule asks for GPUs."""
    name = environment(study, group)
    own = find_interpreter(study, name) or (sys.executable if name == "core" else f".envs/{name}/bin/python")
    lease, separator, _ = leased(study, "profile").rpartition(" -- ")
    return f"{lease}{separator}{own}"

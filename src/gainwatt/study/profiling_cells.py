"""From the section `profile` to its arms, loads and groups, and the names of their records.

A group is the baseline and some other arms of one variant, measured in one process in interleaved order; it has one
record. Arms whose scheme needs an environment of its own are grouped apart.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme
from gainwatt.study.cells import schemes
from gainwatt.study.model import Study
from gainwatt.study.profiling import Profile, profiled_schemes

STAGE = "profile_inference"
_NAME_LENGTH = 100


@dataclass(frozen=True)
class Arm:
    """One way of generating: a scheme, how its forward pass is run, and the attention implementation."""

    scheme: str
    mode: str
    attention: str
    label: str
    """The scheme, and `~` what differs from the first mode and attention implementation of the study."""

    def as_dict(self) -> dict[str, str]:
        """JSON values only; `arm` is the label."""
        return {"arm": self.label, "scheme": self.scheme, "mode": self.mode, "attention": self.attention}


@dataclass(frozen=True)
class Load:
    """Sequences at once, tokens of each prompt, tokens generated for each."""

    batch: int
    prompt_tokens: int
    new_tokens: int

    @property
    def name(self) -> str:
        """E.g. b8-p128-n64."""
        return f"b{self.batch}-p{self.prompt_tokens}-n{self.new_tokens}"

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


@dataclass(frozen=True)
class Group:
    """The arms of one record: the baseline first."""

    variant: str
    arms: tuple[Arm, ...]
    environment: str

    @property
    def name(self) -> str:
        """The record's file stem: the variant, and what is measured beside the baseline."""
        labels = "+".join(arm.label for arm in self.arms[1:]) or self.arms[0].label
        if len(labels) > _NAME_LENGTH:
            digest = hashlib.sha256(labels.encode()).hexdigest()[:8]
            labels = f"{labels[: _NAME_LENGTH - 9]}-{digest}"
        return f"{self.variant}.{labels}"


def section(study: Study) -> Profile:
    """The study's section. Raises InputError where it has none."""
    if study.profile is None:
        raise InputError(
            f"the study {study.study!r} has no section profile",
            "add one (config/README.md), or give its keys, e.g. --set 'profile={batches: [1, 8]}'",
        )
    return study.profile


def arms(study: Study) -> list[Arm]:
    """Every arm, the baseline first: each scheme as it is, then the varied ones with one change each."""
    profile = section(study)
    mode, attention = profile.modes[0], profile.attention[0]
    chosen = profiled_schemes(profile, schemes(study))
    found = [Arm(name, mode, attention, name) for name in chosen]
    for name in profile.varied or (profile.baseline,):
        found += [Arm(name, other, attention, f"{name}~{other}") for other in profile.modes[1:]]
        found += [Arm(name, mode, other, f"{name}~{other}-attention") for other in profile.attention[1:]]
    return found


def loads(study: Study) -> list[Load]:
    """Every load, small batches first."""
    profile = section(study)
    return [
        Load(batch, prompt, new)
        for prompt in profile.prompt_tokens
        for new in profile.new_tokens
        for batch in sorted(profile.batches)
    ]


def groups(study: Study) -> list[Group]:
    """Every group: the arms of one environment in chunks of `together`, each with the baseline before them."""
    if study.profile is None:
        return []
    baseline, *others = arms(study)
    by_environment: dict[str, list[Arm]] = {}
    for arm in others:
        by_environment.setdefault(environment_of_arm(study, arm), []).append(arm)
    size = study.profile.together
    found = []
    for variant in study.profile.variants:
        for environment, members in (by_environment or {environment_of_arm(study, baseline): []}).items():
            chunks = [members[start : start + size] for start in range(0, len(members), size)] or [[]]
            found += [Group(variant, (baseline, *chunk), environment) for chunk in chunks]
    return found


def environment_of_arm(study: Study, arm: Arm) -> str:
    """The environment that loads the arm's checkpoint: the scheme's own, else the study's for profiles."""
    loader = get_scheme(arm.scheme).loader("transformers")
    special = loader.environment if loader is not None else "core"
    return study.resources.profile.environment if special == "core" else special


def group_names(study: Study) -> list[str]:
    """Names of the records of all groups; none without the section."""
    return [group.name for group in groups(study)]


def find_group(study: Study, name: str) -> Group:
    """The group whose record is called `name`. Raises InputError naming all of them."""
    section(study)
    for group in groups(study):
        if group.name == name:
            return group
    names = ", ".join(group_names(study))
    raise InputError(f"the study {study.study!r} has no profile group {name!r}", f"it has: {names}")

"""Ranking with ties as ties: an arm is placed behind another only where the paired difference is clear of zero.

Arms are compared round by round, since all of them ran in every round. The mean of the log ratios has a Student
interval at the confidence that Bonferroni's correction asks for over all pairs. An arm's rank is one more than the
number of arms that are better with confidence, so that arms which nothing tells apart may share a rank.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from gainwatt.stats.student import two_sided_t

_UNBOUNDED = 50.0
"""An interval that reaches over e^50 on either side says nothing: two rounds that differ have no more to say."""
Rounds = Mapping[int, float]
"""Round -> value; all values are positive."""


_quantile = functools.cache(two_sided_t)  # the same for every pair of a ranking


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of the ratio of two arms over their common rounds, with interval; None with fewer than two."""

    ratio: float | None
    low: float | None
    high: float | None
    rounds: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 1."""
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)


@dataclass(frozen=True)
class Place:
    """Where an arm stands. `tied`: arms of which nothing tells it apart; `worse_than`: those that are better."""

    arm: str
    rank: int
    value: float
    tied: tuple[str, ...]
    worse_than: tuple[str, ...]
    rounds: int


def paired_ratio(first: Rounds, second: Rounds, confidence: float) -> Ratio:
    """second / first over the rounds that both have. Values must be positive."""
    common = sorted(set(first) & set(second))
    logs = [math.log(second[number] / first[number]) for number in common]
    if not logs:
        return Ratio(None, None, None, 0)
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(mean), None, None, len(logs))
    half = _quantile(confidence, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    if half > _UNBOUNDED:
        return Ratio(math.exp(mean), None, None, len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def rank(arms: Mapping[str, Rounds], confidence: float) -> list[Place]:
    """Places from the best on; lower values are better. Arms without a value are left out."""
    known = {name: rounds for name, rounds in arms.items() if rounds}
    means = {name: statistics.fmean(rounds.values()) for name, rounds in known.items()}
    pairs = list(itertools.combinations(known, 2))
    level = 1 - (1 - confidence) / max(1, len(pairs))
    better: dict[str, list[str]] = {name: [] for name in known}
    tied: dict[str, list[str]] = {name: [] for name in known}
    for first, second in pairs:
        found = paired_ratio(known[first], known[second], level)
        if not found.clear:
            tied[first].append(second)
            tied[second].append(first)
        elif found.ratio is not None and found.ratio > 1:
            better[second].append(first)
        else:
            better[first].append(second)
    places = [
        Place(name, 1 + len(better[name]), means[name], tuple(tied[name]), tuple(better[name]), len(known[name]))
        for name in known
    ]
    return sorted(places, key=lambda place: (place.rank, place.value, place.arm))


def geometric_mean(parts: list[Rounds]) -> dict[int, float]:
    """Round -> geometric mean over parts (suites), for the rounds that every part has."""
    common = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {number: math.exp(statistics.fmean(math.log(part[number]) for part in parts)) for number in sorted(common)}

"""Pairs of prompts of one length, so that a difference between two kinds is not one of length or position.

Compared are the prompts' own tokens: what all prompts begin and end with (a chat template's turns) is left out. The
beginning has the same activations in every prompt, attention being causal, and the end lies at other positions.
Both prompts of a pair are then cut to the shorter one's length; a token's activation does not depend on what follows,
so that the cut needs no forward pass of its own. Labels are later swapped within pairs only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from gainwatt.errors import InputError


@dataclass(frozen=True)
class Pair:
    """Prompts `first` and `second` (their indices), of which `tokens` tokens each are compared."""

    first: int
    second: int
    tokens: int


@dataclass(frozen=True)
class Frame:
    """How many tokens all prompts share at the beginning and at the end."""

    before: int
    after: int

    def own(self, length: int) -> int:
        """The prompt's own tokens out of `length`."""
        return length - self.before - self.after


def common_frame(sequences: Sequence[Sequence[int]], cut: Sequence[bool]) -> Frame:
    """The longest common beginning and end of all sequences. A `cut` sequence has lost its end and does not count.

    Raises InputError where a prompt has no token of its own.
    """
    before = _common(list(sequences))
    whole = [sequence[before:] for sequence, lost in zip(sequences, cut, strict=True) if not lost]
    after = _common([sequence[::-1] for sequence in whole]) if len(whole) > 1 else 0
    shortest = min(len(sequence) for sequence in sequences)
    if shortest - before - after < 1:
        raise InputError(
            "a prompt is the beginning or the end of all others", "remove it, or turn heads.chat_template off"
        )
    return Frame(before, after)


def by_length(first: dict[int, int], second: dict[int, int]) -> list[Pair]:
    """Pair two sets (index -> own tokens) so that the differences of length add up to the least.

    Both are sorted by length; of the larger set the prompts that fit worst are left out. Solved by dynamic programming
    over the sorted lengths: the best pairing of numbers on a line crosses nowhere.
    """
    one, two = _shortest_first(first), _shortest_first(second)
    if len(one) > len(two):
        return [Pair(pair.second, pair.first, pair.tokens) for pair in by_length(second, first)]
    # cost[j]: least sum for the prompts so far of the smaller set among the first j of the larger.
    cost = [0.0] * (len(two) + 1)
    taken: list[list[bool]] = []
    for i, index in enumerate(one):
        new, choice = [float("inf")] * (len(two) + 1), [False] * (len(two) + 1)
        for j in range(i + 1, len(two) + 1):
            here = cost[j - 1] + abs(first[index] - second[two[j - 1]])
            new[j], choice[j] = min((new[j - 1], False), (here, True))
        cost = new
        taken.append(choice)
    pairs, j = [], len(two)
    for i in range(len(one) - 1, -1, -1):
        while not taken[i][j]:
            j -= 1
        pairs.append(_pair(one[i], two[j - 1], first, second))
        j -= 1
    return pairs[::-1]


def by_rank(first: Sequence[int], second: Sequence[int], lengths: dict[int, int]) -> list[Pair]:
    """Pair the k-th of one set with the k-th of the other, as far as both go."""
    return [_pair(a, b, lengths, lengths) for a, b in zip(first, second, strict=False)]


def halves(lengths: dict[int, int], seed: int) -> list[Pair]:
    """Split one set into two random halves, paired by length: a comparison without any difference to find."""
    order = sorted(lengths)
    random.Random(seed).shuffle(order)  # noqa: S311 - nothing secret
    half = len(order) // 2
    one, two = ({i: lengths[i] for i in part} for part in (order[:half], order[half : 2 * half]))
    return by_length(one, two)


def _shortest_first(lengths: dict[int, int]) -> list[int]:
    return sorted(lengths, key=lambda index: (lengths[index], index))


def _pair(a: int, b: int, first: dict[int, int], second: dict[int, int]) -> Pair:
    return Pair(a, b, min(first[a], second[b]))


def _common(sequences: Sequence[Sequence[int]]) -> int:
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count

"""Pairs of one length: the best pairing, what all prompts share, and halves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.heads.pairs import Frame, by_length, by_rank, common_frame, halves

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=6)


def cost(pairs, one, two):
    return sum(abs(one[pair.first] - two[pair.second]) for pair in pairs)


@given(lengths, lengths)
def test_no_pairing_fits_better(first, second):
    one, two = dict(enumerate(first)), {100 + i: n for i, n in enumerate(second)}
    pairs = by_length(one, two)
    n = min(len(one), len(two))
    assert len({pair.first for pair in pairs}) == len({pair.second for pair in pairs}) == len(pairs) == n
    assert all(pair.tokens == min(one[pair.first], two[pair.second]) for pair in pairs)
    few, many = (first, second) if len(first) <= len(second) else (second, first)
    best = min(sum(abs(a - b) for a, b in zip(few, chosen, strict=True)) for chosen in itertools.permutations(many, n))
    assert cost(pairs, one, two) == best


def test_by_rank():
    found = by_rank([0, 1], [5, 6, 7], {0: 4, 1: 9, 5: 6, 6: 3, 7: 1})
    assert [(pair.first, pair.second, pair.tokens) for pair in found] == [(0, 5, 4), (1, 6, 3)]


def test_halves_share_no_prompt_and_are_the_same_every_time():
    found = halves({i: 10 + i for i in range(9)}, seed=3)
    assert found == halves({i: 10 + i for i in range(9)}, seed=3)
    assert len(found) == 4
    assert len({index for pair in found for index in (pair.first, pair.second)}) == 8


def test_what_all_prompts_share():
    frame = common_frame([(1, 2, 7, 9, 9), (1, 2, 8, 9, 9), (1, 2, 7, 8, 9, 9)], [False] * 3)
    assert frame == Frame(2, 2)
    assert frame.own(6) == 2


def test_a_prompt_that_was_cut_has_lost_its_end():
    assert common_frame([(1, 2, 7, 9), (1, 2, 8, 5, 9), (1, 2, 6, 6)], [False, False, True]) == Frame(2, 1)


def test_a_prompt_without_tokens_of_its_own_is_refused():
    with pytest.raises(InputError, match="beginning or the end of all others"):
        common_frame([(1, 9), (1, 7, 9), (1, 8, 9)], [False] * 3)

"""Models whose answer is known: the head that separates comes out on top; without a difference nothing is found."""

from __future__ import annotations

import numpy as np
import pytest

from gainwatt.heads.modules import all_heads, find_heads
from gainwatt.heads.pairs import Frame, Pair
from gainwatt.heads.read import HeadReader
from gainwatt.heads.tv import contrast

from .models import hand_built, prompts

PAIRS = 20


def compare(model, first, second, seed=0):
    layers = find_heads(model)
    reader = HeadReader(model, layers, statistic="mean", batch_size=64)
    values = {}
    for found, _ in reader.read(dict(enumerate([*first, *second]))):
        values.update(found)
    pairs = [Pair(i, PAIRS + i, len(first[i]) - 1) for i in range(PAIRS)]
    return all_heads(layers), contrast(values, pairs, Frame(1, 0), bins=8, permutations=2000, seed=seed)


@pytest.mark.parametrize(("kv_heads", "reading"), [(4, (1, 2)), (4, (0, 0)), (2, (1, 2)), (2, (0, 1)), (1, (1, 3))])
def test_the_head_that_separates_comes_out_on_top(kv_heads, reading):
    model = hand_built(reading=reading, kv_heads=kv_heads)
    heads, found = compare(model, prompts(PAIRS, "a", 1), prompts(PAIRS, "b", 2))
    order = np.argsort(-found.tv)
    best = heads[order[0]]
    assert (best.layer, best.head) == reading
    assert found.tv[order[0]] > 0.95
    assert found.tv[order[1]] < 0.4
    assert [(heads[i].layer, heads[i].head) for i in np.flatnonzero(found.q <= 0.05)] == [reading]
    assert found.p_family[order[0]] == found.p[order[0]] == found.p_floor


@pytest.mark.parametrize("seed", range(5))
def test_without_a_difference_nothing_is_found(seed):
    model = hand_built(reading=(1, 2))
    _, found = compare(model, prompts(PAIRS, "a", 10 + seed), prompts(PAIRS, "a", 100 + seed), seed)
    assert (found.q > 0.05).all()
    # The plug-in distance is far from zero all the same; what is free of bias is not.
    assert found.tv.mean() > 0.05
    assert found.crossfit.mean() < 0.05

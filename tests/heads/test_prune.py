"""Heads are switched off exactly, counted exactly, and brought back bit by bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.heads import prune
from gainwatt.heads.modules import Head, all_heads, find_heads
from gainwatt.heads.prune import (
    Point,
    RestoreError,
    check_dense,
    chosen,
    count,
    points,
    pruned,
    removable_parameters,
    scored_heads,
    weights_sha256,
)  # fmt: skip
from gainwatt.study.heads import Prune

from .models import SHAPES, tiny

IDS = torch.tensor([[3, 4, 5, 6]])


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("kind", SHAPES)
def test_a_head_that_is_off_reaches_nothing(kind):
    model = tiny(kind)
    layers = find_heads(model)
    before, untouched = weights_sha256(layers), logits(model)
    off = [Head(0, 1), Head(1, 3)]
    with pruned(layers, off) as told:
        seen = logits(model)
        assert weights_sha256(layers) == told["weights_sha256_pruned"] != before
    assert told["weights_sha256_after"] == told["weights_sha256_before"] == before
    assert torch.equal(logits(model), untouched)
    # The same by masking what the projection is given.
    for head in off:
        layer = layers[head.layer]
        columns = layer.columns(head.head)

        def mask(module, inputs, columns=columns):
            changed = inputs[0].clone()
            changed[..., columns] = 0
            return (changed,)

        layer.module.register_forward_pre_hook(mask)
    torch.testing.assert_close(logits(model), seen)
    assert not torch.allclose(seen, untouched)


def test_nothing_off_changes_nothing():
    model = tiny("llama")
    layers = find_heads(model)
    untouched = logits(model)
    with pruned(layers, []) as told:
        assert torch.equal(logits(model), untouched)
    assert len(set(told.values())) == 1


def test_an_error_inside_brings_the_weights_back():
    layers = find_heads(tiny("qwen2"))
    before = weights_sha256(layers)
    with pytest.raises(MemoryError), pruned(layers, all_heads(layers)):
        raise MemoryError
    assert weights_sha256(layers) == before


def test_weights_that_do_not_come_back_are_noticed():
    layers = find_heads(tiny("qwen2"))
    with pytest.raises(RestoreError, match="not what they were"), pruned(layers, [Head(0, 0)]), torch.no_grad():
        layers[1].module.weight[0, 0] += 1


def test_packed_weights_and_unknown_heads_are_refused():
    layers = find_heads(tiny("qwen2"))
    with pytest.raises(InputError, match="the model has no head L7H0"), pruned(layers, [Head(7, 0)]):
        pass
    layers[0].module.weight = torch.nn.Parameter(torch.zeros(64, 32, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(InputError, match="packed weights"):
        check_dense(layers)


@given(st.integers(1, 2000), st.integers(0, 100))
def test_counts_are_whole_and_zero_percent_is_none(heads, percent):
    found = count(percent, heads)
    assert found == percent * heads // 100
    assert count(0, heads) == 0


def test_points():
    names = [point.name for point in points(Prune(percents=(30, 10.5), random_draws=2, strategies=("tv", "random")))]
    assert names == ["none-0", "tv-10.5", "random-10.5-d0", "random-10.5-d1", "tv-30", "random-30-d0", "random-30-d1"]


def test_which_heads_go_first():
    heads = [Head(layer, head) for layer in range(2) for head in range(5)]
    scores = {head: float(7 * i % 10) for i, head in enumerate(heads)}
    norms = dict.fromkeys(heads, 1.0)

    def off(strategy, percent, draw=None):
        return chosen(Point(strategy, percent, draw), heads, scores, norms, seed=0)

    assert off("none", 0) == off("tv", 0) == off("random", 0, 0) == []
    assert [scores[head] for head in off("tv", 30)] == [0, 1, 2]
    assert [scores[head] for head in off("tv_highest", 30)] == [9, 8, 7]
    assert off("magnitude", 30) == heads[:3]
    assert off("random", 50, 0)[:2] == off("random", 20, 0)
    assert off("random", 50, 0) != off("random", 50, 1)
    assert len(set(off("random", 50, 1))) == 5


def test_what_cutting_out_would_free():
    layers = find_heads(tiny("qwen2"))
    one = 2 * 16 * 64
    assert removable_parameters(layers, [Head(0, 0)], 64) == one
    assert removable_parameters(layers, [Head(0, 0), Head(0, 1)], 64) == 3 * one  # with their keys and values


def test_scores_of_another_model_are_refused():
    layers = find_heads(tiny("qwen2"))
    rows = [{"layer_idx": head.layer, "head_idx": head.head, "tv_distance": 0.5} for head in all_heads(layers)]
    assert len(scored_heads(layers, rows, "tv_distance")) == 8
    with pytest.raises(InputError, match="the scores are of 7 heads, and the model has 8"):
        scored_heads(layers, rows[1:], "tv_distance")


def test_the_baseline_is_called_as_the_tables_call_it():
    assert points(Prune())[0].strategy == prune.BASELINE

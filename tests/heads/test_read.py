"""What is read is the input of each output projection, head by head, whatever stands beside a prompt in its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gainwatt.heads.modules import find_heads
from gainwatt.heads.read import HeadReader

from .models import SHAPES, tiny

SEQUENCES = {0: [3, 4, 5, 6, 7], 1: [8, 9], 2: [3, 11, 12, 13, 14, 15, 16, 17]}


def read(model, sequences=SEQUENCES, **options):
    reader = HeadReader(model, find_heads(model), **{"statistic": "mean", "batch_size": 4, **options})
    found = {}
    for values, seconds in reader.read(sequences):
        assert seconds >= 0
        found.update(values)
    return found, reader


def by_hand(model, ids, statistic):
    """From the attention maps of the eager implementation and the values: what the output projection is given."""
    captured = {}
    for name, module in model.named_modules():
        if name.endswith("o_proj"):
            module.register_forward_hook(lambda module, inputs, output, name=name: captured.update({name: inputs[0]}))
    with torch.no_grad():
        model(torch.tensor([ids]))
    parts = []
    for name in sorted(captured):
        heads = captured[name][0].view(len(ids), 4, -1).double()
        parts.append(heads.mean(-1) if statistic == "mean" else (heads**2).mean(-1).sqrt())
    return torch.cat(parts, dim=1).numpy()


@pytest.mark.parametrize("kind", [*SHAPES])
@pytest.mark.parametrize("statistic", ["mean", "rms"])
def test_values_of_each_head_and_no_influence_of_padding(kind, statistic):
    model = tiny(kind)
    found, _ = read(model, statistic=statistic)
    for index, ids in SEQUENCES.items():
        assert found[index].shape == (len(ids), 8)
        np.testing.assert_allclose(found[index], by_hand(model, ids, statistic), rtol=2e-4, atol=2e-6)


def test_slices_after_the_projection_are_no_heads():
    """Switching a head off changes its own value alone; after the projection it would change every slice."""
    model = tiny("qwen3")
    before, _ = read(model)
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        attention.v_proj.weight[:32] = 0  # the first key/value head: query heads 0 and 1
    after, _ = read(model)
    changed = ~np.isclose(before[0], after[0]).all(axis=0)
    assert changed.tolist() == [False] * 4 + [True, True, False, False]


def test_no_logits_and_no_hook_is_left():
    model = tiny("llama")
    asked = []
    model.lm_head.register_forward_hook(lambda *_: asked.append(1))
    read(model)
    assert not asked
    assert all(not layer.module._forward_pre_hooks for layer in find_heads(model))


def test_out_of_memory_halves_the_batch_and_one_prompt_is_too_much_in_the_end(monkeypatch):
    model = tiny("llama")
    whole = HeadReader._batch

    def scarce(limit):
        def batch(self, rows):
            if len(rows) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, rows)

        return batch

    monkeypatch.setattr(HeadReader, "_batch", scarce(1))
    found, reader = read(model)
    assert sorted(found) == [0, 1, 2]
    assert reader.batch_size == 1
    assert reader.events == ["out of memory at batch size 3: halved to 1"]
    monkeypatch.setattr(HeadReader, "_batch", scarce(0))
    with pytest.raises(torch.OutOfMemoryError):
        read(model)


def test_warm_up_takes_the_first_and_the_last_batch_and_leaves_a_lack_of_memory_to_the_reading(monkeypatch):
    model = tiny("llama")
    expected, reader = read(model, batch_size=2)
    sizes: list[tuple[int, int]] = []
    whole = HeadReader._batch

    def scarce(self, rows):
        sizes.append((len(rows), max(map(len, rows))))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows)

    monkeypatch.setattr(HeadReader, "_batch", scarce)
    reader.warm_up(SEQUENCES)
    assert sizes == [(2, 8), (1, 2)]
    assert (reader.events, reader.batch_size) == ([], 2)
    monkeypatch.undo()
    assert {index: values.tolist() for index, values in read(model, batch_size=2)[0].items()} == {
        index: values.tolist() for index, values in expected.items()
    }

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from gainwatt.weights.outputs import activation_rows, compare_outputs
from gainwatt.weights.quantizers import SymmetricW4

from .naive import codes_w4

TEXTS = [[5, 1, 7, 2, 9], [3], list(range(20)) * 4]
NAME = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def changed(model: Any) -> Any:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight *= 1.5
    return other


def outputs(model: Any, ids: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    with torch.no_grad():
        found = model(torch.tensor([ids]), output_hidden_states=True)
    return [h[0].double().numpy() for h in found.hidden_states[1:]], found.logits[0].double().numpy()


def test_against_numpy(model: Any, changed: Any) -> None:
    relative: list[list[float]] = [[], []]
    divergences, same = [], []
    for ids in TEXTS:
        (states, logits), (other_states, other_logits) = outputs(model, ids), outputs(changed, ids)
        for block in range(2):
            error = np.linalg.norm(states[block] - other_states[block], axis=1)
            relative[block] += list((error / np.linalg.norm(states[block], axis=1)) ** 2)
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, other_logits))
        divergences += list((p * np.log(p / q)).sum(1))
        same += list(logits.argmax(1) == other_logits.argmax(1))
    found = compare_outputs(model, changed, TEXTS)
    assert found.tokens == 86
    assert found.block_errors == pytest.approx([np.mean(part) for part in relative], rel=1e-5, abs=1e-12)
    assert found.block_errors[0] == 0
    assert found.block_errors[1] > 1e-3
    assert found.kl_nats == pytest.approx(np.mean(divergences), rel=1e-4)
    assert found.top1_agreement == pytest.approx(np.mean(same))
    first, last = found.rows("x")
    assert first == {"against": "x", "block": 0, "relative_error": 0.0, "snr_db": None}
    assert last["snr_db"] == pytest.approx(-10 * math.log10(found.block_errors[1]))


def test_a_model_against_itself(model: Any) -> None:
    found = compare_outputs(model, model, TEXTS)
    assert (found.block_errors, found.kl_nats, found.top1_agreement) == ([0.0, 0.0], 0.0, 1.0)


def test_activations(model: Any) -> None:
    seen: list[torch.Tensor] = []
    handle = model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _m, x, _y: seen.append(x[0][0]))
    for ids in TEXTS:
        outputs(model, ids)
    handle.remove()
    maxima = torch.cat(seen).abs().amax(0).detach().numpy()
    rows = {row["module_name"]: row for row in activation_rows(model, TEXTS, multiplier=2.0)}
    assert len(rows) == 14
    row = rows[NAME]
    median = np.sort(maxima)[(maxima.size - 1) // 2]
    assert (row["in_channels"], row["tokens"]) == (24, 86)
    assert row["act_max_abs"] == maxima.max()
    assert row["act_channel_max_abs_median"] == median
    assert row["act_channel_outlier_frac"] == (maxima > 2 * median).mean()
    assert row["act_channels_ge_6_frac"] == (maxima >= 6).mean()
    assert row["sampled_tokens"] == 3 + 1 + 4
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layer_outputs(model: Any) -> None:
    layer = model.model.layers[1].mlp.down_proj
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _m, x, _y: seen.append(x[0][0]))
    outputs(model, TEXTS[2])
    handle.remove()
    inputs = seen[0].double().numpy()[::20]
    w = layer.weight.detach().numpy()
    codes, scales = codes_w4(w, 16)
    restored = codes.astype(float) * np.repeat(scales, 16, 1)[:, :24]
    error = np.linalg.norm(inputs @ (restored - w).T, axis=1) ** 2 / np.linalg.norm(inputs @ w.T, axis=1) ** 2
    rows = activation_rows(model, [TEXTS[2]], multiplier=2.0, quantizers=[SymmetricW4(16)])
    (row,) = (row for row in rows if row["module_name"] == NAME)
    assert row["output_relative_error_symmetric_w4"] == pytest.approx(error.mean(), rel=1e-4)
    assert row["output_snr_db_symmetric_w4"] == pytest.approx(-10 * np.log10(error.mean()), rel=1e-4)

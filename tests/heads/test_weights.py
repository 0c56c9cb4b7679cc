"""Norms of single heads, and how far training moved them."""

from __future__ import annotations

import pytest
import torch

from gainwatt.errors import InputError
from gainwatt.heads.modules import find_heads
from gainwatt.heads.weights import changes, output_norms

from .models import tiny


def test_norms():
    model = tiny("gemma2")
    layers = find_heads(model)
    weight = model.model.layers[1].self_attn.o_proj.weight
    assert output_norms(layers)[5] == pytest.approx(float(weight[:, 24:48].detach().norm()), rel=1e-6)
    layers[0].module.weight = torch.nn.Parameter(torch.zeros(96, 64, dtype=torch.uint8), requires_grad=False)
    assert output_norms(layers) is None


def test_codes_of_fp8_have_no_norm_without_their_scales():
    layers = find_heads(tiny("qwen2"))
    weight = layers[0].module.weight.detach().to(torch.float8_e4m3fn)
    layers[0].module.weight = torch.nn.Parameter(weight, requires_grad=False)
    assert output_norms(layers) is None


def test_changes(tmp_path):
    model = tiny("qwen3")
    layers = find_heads(model)
    model.save_pretrained(tmp_path / "base")
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        before = attention.o_proj.weight[:, 64:96].norm(), attention.q_proj.weight[64:96].norm()
        attention.o_proj.weight[:, 64:96] += 0.5
        attention.q_proj.weight[64:96] += 0.25
        attention.k_proj.weight[32:] += 0.125
    model.save_pretrained(tmp_path / "trained")
    rows = changes(layers, tmp_path / "trained", tmp_path / "base")
    assert len(rows) == 8
    moved = rows[6]
    o, q, k = 0.5 * (64 * 32) ** 0.5, 0.25 * (64 * 32) ** 0.5, 0.125 * (64 * 32) ** 0.5
    assert moved["dw_o_norm"] == pytest.approx(o, rel=1e-6)
    assert moved["dw_q_norm"] == pytest.approx(q, rel=1e-6)
    assert moved["dw_kv_norm"] == pytest.approx(k, rel=1e-6)
    assert moved["dw_norm"] == pytest.approx((o * o + q * q) ** 0.5, rel=1e-6)
    assert moved["dw_relative"] == pytest.approx(
        moved["dw_norm"] / float((before[0] ** 2 + before[1] ** 2) ** 0.5), rel=1e-5
    )
    assert rows[7]["dw_norm"] == 0
    assert rows[7]["dw_kv_norm"] == pytest.approx(k, rel=1e-6)  # the sibling shares keys and values
    assert all(row["dw_kv_norm"] == 0 for row in rows[:6])


def test_joined_projections_leave_what_cannot_be_told_apart_empty(tmp_path):
    model = tiny("phi3")
    model.save_pretrained(tmp_path / "base")
    rows = changes(find_heads(model), tmp_path / "base", tmp_path / "base")
    assert {row["dw_o_norm"] for row in rows} == {0}
    assert {row["dw_norm"] for row in rows} == {row["dw_q_norm"] for row in rows} == {None}


def test_another_shape_is_refused(tmp_path):
    tiny("qwen3").save_pretrained(tmp_path / "base")
    tiny("qwen2").save_pretrained(tmp_path / "trained")
    with pytest.raises(InputError, match="has the shape"):
        changes(find_heads(tiny("qwen2")), tmp_path / "trained", tmp_path / "base")

"""AutoAWQ's packed weights are restored as its kernels read them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from gainwatt.errors import InputError
from gainwatt.weights.stored import stored_matrices

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # output channel at each 4-bit place of a word, from the lowest bits up


def pack(codes):
    """Codes [n, outputs] -> words [n, outputs / 8], written place by place."""
    words = torch.zeros((codes.shape[0], codes.shape[1] // 8), dtype=torch.int64)
    for word in range(words.shape[1]):
        for place, channel in enumerate(ORDER):
            words[:, word] |= codes[:, 8 * word + channel].long() << (4 * place)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def checkpoint(folder, inputs=64, outputs=24, group=32):
    torch.manual_seed(0)
    codes, zeros = torch.randint(0, 16, (inputs, outputs)), torch.randint(0, 16, (inputs // group, outputs))
    scales = (torch.rand(inputs // group, outputs) + 0.1).half()
    tensors = {"m.q.qweight": pack(codes), "m.q.qzeros": pack(zeros), "m.q.scales": scales}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    values = (codes - zeros.repeat_interleave(group, 0)).float() * scales.float().repeat_interleave(group, 0)
    return values.T, codes.T, scales.float().repeat_interleave(group, 0).T


def test_values_codes_and_steps_are_restored(tmp_path):
    values, codes, steps = checkpoint(tmp_path)
    (module, matrix), *others = stored_matrices(tmp_path).items()
    assert (module, others, matrix.shape) == ("m.q", [], (24, 64))
    block = matrix.block(0, 24)
    assert torch.equal(block.values, values)
    assert torch.equal(block.codes, codes.int())
    assert torch.equal(block.steps, steps)


@pytest.mark.parametrize("step", [1, 5, 100])
def test_blocks_of_rows_make_the_whole(tmp_path, step):
    values, _, _ = checkpoint(tmp_path)
    matrix = stored_matrices(tmp_path)["m.q"]
    for _ in range(2):
        found = torch.cat([matrix.block(first, step).values for first in range(0, 24, step)])
        assert torch.equal(found, values)


def test_scales_of_another_shape_are_named(tmp_path):
    checkpoint(tmp_path)
    tensors = {
        "m.q.qweight": torch.zeros((64, 3), dtype=torch.int32),
        "m.q.qzeros": torch.zeros((2, 3), dtype=torch.int32),
        "m.q.scales": torch.zeros((2, 16), dtype=torch.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"m\.q\.qweight .* they do not fit"):
        stored_matrices(tmp_path)

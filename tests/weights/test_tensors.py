from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.weights.tensors import is_finite, read_tensors, row_blocks, rows_per_block, same_values

from .naive import TYPES, checkpoint, heavy


@pytest.mark.parametrize("name", TYPES)
def test_blocks_are_the_stored_rows(tmp_path: Path, name: str) -> None:
    stored = heavy((37, 24), 1, TYPES[name])
    folder = checkpoint(tmp_path, [{"x": torch.ones(3)}, {"a.weight": stored, "b": torch.zeros(2, 3, 4)}])
    tensor = read_tensors(folder)["a.weight"]
    assert (tensor.shape, tensor.torch_name, tensor.numel) == ((37, 24), name, 37 * 24)
    blocks = [block.clone() for block in row_blocks(tensor, elements=200)]
    assert [len(block) for block in blocks] == [8, 8, 8, 8, 5]
    assert torch.equal(torch.cat(blocks), stored)


@given(st.integers(1, 300), st.integers(1, 100_000))
def test_each_block_starts_where_a_block_of_nf4_does(columns: int, elements: int) -> None:
    rows = rows_per_block((1000, columns), elements)
    assert rows >= 1
    assert rows * columns % 64 == 0
    assert rows * columns <= max(elements, 64 * columns)


def test_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*\.safetensors files"):
        read_tensors(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"a.weight": torch.ones(8, 8)}) / "model-0.safetensors"
    whole = path.read_bytes()
    for length in (4, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model-0\.safetensors"):
            read_tensors(tmp_path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"a.weight": torch.ones(64, 64)}) / "model-0.safetensors"
    tensor = read_tensors(tmp_path)["a.weight"]
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(InputError, match=r"ended in the middle of a\.weight"):
        list(row_blocks(tensor, elements=1024))


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}', b"\xff\xfe"])
def test_a_header_that_is_none(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="as safetensors"):
        read_tensors(tmp_path)


def test_a_tensor_stored_twice(tmp_path: Path) -> None:
    checkpoint(tmp_path, [{"a.weight": torch.ones(2, 2)}, {"a.weight": torch.ones(2, 2)}])
    with pytest.raises(InputError, match=r"a\.weight is stored twice.*model-0.*model-1"):
        read_tensors(tmp_path)


def test_same_values(tmp_path: Path) -> None:
    one = heavy((9, 70), 3)
    other = one.clone()
    other[-1, -1] += 1
    checkpoint(tmp_path, {"a": one, "b": one.clone(), "c": other, "d": one.T.contiguous(), "e": one.half()})
    found = read_tensors(tmp_path)
    assert same_values(found["a"], found["b"], block_bytes=100)
    assert not any(same_values(found["a"], found[name], block_bytes=100) for name in "cde")


def test_a_value_that_is_no_number_is_found_in_any_block(tmp_path: Path) -> None:
    values = heavy((40, 40), 1)
    for place in (0, 799, 1599):
        values = heavy((40, 40), 1)
        values.view(-1)[place] = float("inf")
        found = read_tensors(checkpoint(tmp_path, {"a": values, "b": heavy((3, 3), 1), "c": torch.arange(3)}))
        assert [is_finite(found[name], block_bytes=4 * 300) for name in "abc"] == [False, True, True]

"""Tensors of a checkpoint, found in the safetensors headers and read in blocks of rows.

The file format: 8 bytes little-endian header length, a JSON header with type, shape and byte range of each tensor,
then the data (https://github.com/huggingface/safetensors#format). Blocks are read with plain reads into one buffer:
pages of a memory map would count as this process's memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.weight_files import weight_files

TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_STORED_NAMES = TORCH_NAMES | {
    "F64": "float64", "F8_E4M3": "float8_e4m3fn", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
_EXPONENTS = {"F32": 0x7F800000, "BF16": 0x7F80, "F16": 0x7C00}  # all ones: infinite, or not a number
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_ALIGNMENT = 64  # elements: blocks begin where a block of NF4 begins


@dataclass(frozen=True)
class Tensor:
    """One stored tensor: `shape`, type as safetensors names it, and its byte range in `path`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    begin: int
    end: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def torch_name(self) -> str:
        """`float32`, `bfloat16` or `float16`. Raises InputError for any other type."""
        if self.dtype not in TORCH_NAMES:
            raise InputError(
                f"the tensor {self.name} in {self.path} is stored as {self.dtype}, not as F32, BF16 or F16",
                "give an unquantized checkpoint",
            )
        return TORCH_NAMES[self.dtype]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor in the files of `folder` that hold its weights (see `weight_files`), sorted by name.

    Raises InputError naming the file: none there, truncated, a header that is no header, a tensor stored twice.
    """
    paths = weight_files(folder)
    if not paths:
        raise InputError(f"there are no *.safetensors files in {folder}", "give the folder of a saved model")
    found: dict[str, Tensor] = {}
    for path in paths:
        for tensor in _read_header(path):
            if tensor.name in found:
                raise InputError(
                    f"the tensor {tensor.name} is stored twice: in {found[tensor.name].path} and in {path}",
                    "remove the files that do not belong to the checkpoint",
                )
            found[tensor.name] = tensor
    return dict(sorted(found.items()))


def _read_header(path: Path) -> list[Tensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("the header is longer than the file")
            header = json.loads(handle.read(length))
        data = 8 + length
        header.pop("__metadata__", None)
        found = [_tensor(name, entry, path, data) for name, entry in header.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read {path} as safetensors: {error}", "bring or make the checkpoint again") from error
    for tensor in found:
        expected = _BYTES.get(tensor.dtype, 0) * tensor.numel
        if not data <= tensor.begin <= tensor.end <= size or (expected and tensor.end - tensor.begin != expected):
            raise InputError(
                f"{path} is truncated or damaged: the data of {tensor.name} is not where the header says",
                "bring or make the checkpoint again",
            )
    return found


def _tensor(name: str, entry: dict[str, Any], path: Path, data: int) -> Tensor:
    begin, end = entry["data_offsets"]
    return Tensor(name, str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), path, data + begin, data + end)


def rows_per_block(shape: tuple[int, ...], elements: int) -> int:
    """Rows of a 2-D tensor in a block of about `elements`, so that each block starts at a multiple of 64 elements."""
    columns = max(shape[1], 1)
    step = _ALIGNMENT // math.gcd(columns, _ALIGNMENT)
    return max(step, elements // columns // step * step)


def row_blocks(tensor: Tensor, *, elements: int, device: str = "cpu") -> Iterator[Any]:
    """Blocks of consecutive rows of a 2-D tensor, in the stored type, on `device`.

    A block is valid until the next one is asked for: on the CPU all share one buffer. Raises InputError when the file
    ends early.
    """
    import torch

    rows, columns = tensor.shape
    dtype = getattr(torch, tensor.torch_name)
    step = min(rows_per_block(tensor.shape, elements), rows)
    buffer = torch.empty((step, columns), dtype=dtype)
    if tensor.numel == 0:
        return
    raw = memoryview(buffer.view(torch.uint8).numpy()).cast("B")
    row_bytes = columns * buffer.element_size()
    with tensor.path.open("rb", buffering=0) as handle:
        handle.seek(tensor.begin)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            _read_into(handle, raw[: count * row_bytes], tensor)
            block = buffer[:count]
            yield block if device == "cpu" else block.to(device)


def read_rows(tensor: Tensor, first: int = 0, count: int | None = None) -> Any:
    """Rows first … first + count - 1 of a tensor of any shape and stored type (default: all of it), in main memory.

    Raises InputError for a type that torch lacks and when the file ends early.
    """
    import torch

    if tensor.dtype not in _STORED_NAMES:
        raise InputError(
            f"the tensor {tensor.name} in {tensor.path} has the type {tensor.dtype}, which is not read here",
            f"types that are read: {', '.join(_STORED_NAMES)}",
        )
    dtype = getattr(torch, _STORED_NAMES[tensor.dtype])
    rows = tensor.shape[0] if tensor.shape else 1
    count = rows - first if count is None else min(count, rows - first)
    found = torch.empty((count, *tensor.shape[1:]), dtype=dtype)
    row_bytes = (tensor.end - tensor.begin) // max(rows, 1)
    if found.numel():
        with tensor.path.open("rb", buffering=0) as handle:
            handle.seek(tensor.begin + first * row_bytes)
            _read_into(handle, memoryview(found.view(-1).view(torch.uint8).numpy()).cast("B"), tensor)
    return found if tensor.shape else found.view(())


def _read_into(handle: Any, target: memoryview, tensor: Tensor) -> None:
    done = 0
    while done < len(target):
        got = handle.readinto(target[done:])
        if not got:
            raise InputError(
                f"{tensor.path} ended in the middle of {tensor.name}", "bring or make the checkpoint again"
            )
        done += got


def same_values(first: Tensor, second: Tensor, *, block_bytes: int = 1 << 20) -> bool:
    """True where two tensors of the same type and shape hold the same bytes; reads until the first difference."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    left = first.end - first.begin
    with first.path.open("rb") as one, second.path.open("rb") as other:
        one.seek(first.begin)
        other.seek(second.begin)
        while left > 0:
            count = min(block_bytes, left)
            if one.read(count) != other.read(count):
                return False
            left -= count
    return True


def is_finite(tensor: Tensor, *, block_bytes: int = 1 << 22) -> bool:
    """False where a 16- or 32-bit float of the tensor is infinite or not a number; needs no torch.

    Raises InputError when the file ends early.
    """
    import numpy as np

    if tensor.dtype not in _EXPONENTS:
        return True
    kind = np.dtype(f"<u{_BYTES[tensor.dtype]}")
    ones, left = kind.type(_EXPONENTS[tensor.dtype]), tensor.end - tensor.begin
    buffer = np.empty(min(block_bytes, left) // kind.itemsize, kind)
    with tensor.path.open("rb", buffering=0) as handle:
        handle.seek(tensor.begin)
        while left > 0:
            block = buffer[: left // kind.itemsize]
            _read_into(handle, block.data.cast("B"), tensor)
            if bool((np.bitwise_and(block, ones, out=block) == ones).any()):
                return False
            left -= block.nbytes
    return True

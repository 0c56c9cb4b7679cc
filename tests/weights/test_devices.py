"""Codes must not depend on the device: a GPU's division by a plain number is not correctly rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gainwatt.weights.quantizers import QUANTIZERS, quantizer

from .naive import heavy

_DIVISIONS = (torch.Tensor.__truediv__, torch.Tensor.div, torch.div, torch.true_divide)


class _AsOnAGpu(TorchFunctionMode):
    """Replaces tensor / number by tensor · (1 / number), both in the tensor's type, as torch's CUDA kernel does."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DIVISIONS and len(args) == 2 and isinstance(args[1], int | float):
            return args[0] * (1 / torch.tensor(float(args[1]), dtype=args[0].dtype))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_gpu_division_changes_no_code(name: str) -> None:
    w = heavy((96, 256), 5, torch.bfloat16).float()  # bf16 values lie halfway between codes quite often
    expected = quantizer(name, group_size=128).encode(w)
    with _AsOnAGpu():
        found = quantizer(name, group_size=128).encode(w)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scales, expected.scales)


def test_the_imitated_division_differs_at_all() -> None:
    largest = heavy((96, 256), 5, torch.bfloat16).float().abs().amax(1)
    with _AsOnAGpu():
        assert not torch.equal(largest / 7, largest / largest.new_full((), 7))


@pytest.mark.gpu
@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_gpu_makes_the_same_codes(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    w = heavy((512, 1536), 5, torch.bfloat16).float()
    made = quantizer(name, group_size=128)
    expected, found = made.encode(w), made.encode(w.cuda())
    assert torch.equal(found.codes.cpu(), expected.codes)

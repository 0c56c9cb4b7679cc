"""Loads for agreement.py: dense products, and a launch-bound loop that stands for decoding at batch 1."""

from __future__ import annotations

import time
from typing import Any

from gainwatt.errors import UnavailableError


def require_torch() -> Any:
    """torch with a CUDA device. Raises UnavailableError without one."""
    try:
        import torch
    except ImportError as error:
        raise UnavailableError(
            f"torch cannot be imported: {error}", "run with an interpreter that has torch"
        ) from error
    if not torch.cuda.is_available():
        raise UnavailableError("torch sees no CUDA device", "run this on a machine with an NVIDIA GPU")
    return torch


def machine() -> dict[str, Any]:
    """GPU, driver and versions, read from the machine."""
    torch = require_torch()
    import pynvml

    pynvml.nvmlInit()
    driver = pynvml.nvmlSystemGetDriverVersion()
    pynvml.nvmlShutdown()
    # The load runs on torch's first GPU; its UUID stands beside those that the meter gives.
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    return {
        "gpu": torch.cuda.get_device_name(0),
        "uuid": None if uuid is None else f"GPU-{uuid}",
        "driver": str(driver),
        "torch": torch.__version__,
    }


class MatrixLoad:
    """Products of bf16 matrices of 8192 × 8192 (1.1 TFLOP each)."""

    def __init__(self, size: int = 8192) -> None:
        self.torch = require_torch()
        self.left = self.torch.randn(size, size, device="cuda", dtype=self.torch.bfloat16)
        self.out = self.torch.empty_like(self.left)
        self.run(1.0)

    def batch(self, count: int = 10) -> None:
        """`count` products, finished when it returns."""
        for _ in range(count):
            self.torch.mm(self.left, self.left, out=self.out)
        self.torch.cuda.synchronize()

    def run(self, seconds: float) -> None:
        """Batches of products for `seconds`."""
        self.count(seconds)

    def count(self, seconds: float) -> int:
        """Number of batches that `seconds` hold."""
        end, batches = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            self.batch()
            batches += 1
        return batches

    def duty(self, batches: int) -> None:
        """A fixed amount of work."""
        for _ in range(batches):
            self.batch()


class DecodeLoop:
    """Decode-like: one vector through 28 layers of small products, each its own launch, token by token.

    The time of a step is launches, not arithmetic, so it shows anything that disturbs the thread that launches.
    """

    def __init__(self, width: int = 1536, layers: int = 28) -> None:
        self.torch = require_torch()
        kind = self.torch.bfloat16
        self.weights = [self.torch.randn(width, 4 * width, device="cuda", dtype=kind) * 0.01 for _ in range(layers)]
        self.state = self.torch.randn(1, width, device="cuda", dtype=kind)
        self.timed(1.0)

    def step(self) -> None:
        """One token; the host waits for it, as a sampler of tokens does."""
        state = self.state
        for weight in self.weights:
            hidden = self.torch.nn.functional.silu(state @ weight)
            state = self.torch.nn.functional.layer_norm(state + hidden @ weight.T, state.shape[-1:])
        int(state.argmax())

    def timed(self, seconds: float) -> list[tuple[float, float]]:
        """(start, seconds) of every step over `seconds`, on the monotonic clock."""
        steps = []
        begin = now = time.monotonic()
        while now - begin < seconds:
            self.step()
            after = time.monotonic()
            steps.append((now, after - now))
            now = after
        return steps

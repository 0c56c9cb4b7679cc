"""One forward pass per prompt; of each head's output, one number per token is kept.

A hook before each output projection reduces (batch, tokens, heads × head_dim) to (batch, tokens, heads) at once, so
that memory does not hold attention maps (layers × heads × tokens²) nor hidden states: attention runs by the fast
kernels, which never write the maps, and no logits are computed. Prompts are padded on the right and no mask is given:
attention is causal, so that no token of a prompt sees the padding, and what is read there is dropped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gainwatt.batches import warm_up
from gainwatt.heads.modules import HeadLayer
from gainwatt.oom import is_out_of_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class HeadReader:
    """Reads the heads of a loaded model. `events` says where a batch had to be halved.

    `statistic`: `mean` of a head's head_dim values, or `rms`, the root of their mean square; both in fp32.
    """

    def __init__(self, model: Any, layers: list[HeadLayer], *, statistic: str, batch_size: int) -> None:
        self.model = model
        self.layers = layers
        self.statistic = statistic
        self.batch_size = batch_size
        self.events: list[str] = []

    def warm_up(self, sequences: Mapping[int, Sequence[int]]) -> None:
        """Read the batches with which `read` begins and ends, and forget them."""
        rows = [sequences[index] for index in _longest_first(sequences)]
        warm_up(self._batch, rows, self.batch_size)

    def read(self, sequences: Mapping[int, Sequence[int]]) -> Iterator[tuple[dict[int, NDArray[np.float32]], float]]:
        """Yield, batch by batch, an array of shape (tokens, heads of all layers) by prompt, and the seconds.

        Longest prompts first. Raises MemoryError or torch.OutOfMemoryError where a single prompt does not fit.
        """
        import torch

        waiting = _longest_first(sequences)
        while waiting:
            batch = waiting[: self.batch_size]
            started = time.monotonic()
            values = None
            try:
                values = self._batch([sequences[index] for index in batch])
            except (RuntimeError, MemoryError) as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
            if values is None:
                self.batch_size = len(batch) // 2
                self.events.append(f"out of memory at batch size {len(batch)}: halved to {self.batch_size}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            waiting = waiting[len(batch) :]
            found = {index: values[row, : len(sequences[index])] for row, index in enumerate(batch)}
            yield found, time.monotonic() - started

    def _batch(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Shape (prompts, tokens, heads of all layers)."""
        import torch

        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], device=self.model.device)
        kept: list[Any] = [None] * len(self.layers)
        with contextlib.ExitStack() as hooks, torch.inference_mode():
            for place, layer in enumerate(self.layers):
                handle = layer.module.register_forward_pre_hook(self._hook(kept, place, layer))
                hooks.callback(handle.remove)
            # The decoder without the output layer: nobody asks for logits.
            getattr(self.model, "base_model", self.model)(input_ids=ids, use_cache=False)
            values: NDArray[np.float32] = torch.cat(kept, dim=-1).cpu().numpy()
        return values

    def _hook(self, kept: list[Any], place: int, layer: HeadLayer) -> Any:
        import torch

        def keep(_: Any, inputs: tuple[Any, ...]) -> None:
            output = inputs[0].unflatten(-1, (layer.heads, layer.head_dim))
            if self.statistic == "mean":
                kept[place] = output.mean(dim=-1, dtype=torch.float32)
            else:
                kept[place] = output.float().square().mean(dim=-1).sqrt()

        return keep


def _longest_first(sequences: Mapping[int, Sequence[int]]) -> list[int]:
    return sorted(sequences, key=lambda index: (-len(sequences[index]), index))

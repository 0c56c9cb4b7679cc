"""What a killed scoring or pruning needs to go on."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainwatt.unfinished import UnfinishedWork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ReadPrompts(UnfinishedWork):
    """What was read of the heads, by prompt, in shape (tokens, heads), and the seconds that the passes took."""

    def __init__(self, path: Path, identity: str) -> None:
        self.done: dict[int, NDArray[np.float32]] = {}
        self.seconds = 0.0
        super().__init__(path, identity)

    def add(self, found: dict[int, NDArray[np.float32]], *, seconds: float) -> None:
        """Keep the prompts of a finished batch."""
        prompts = [[index, list(values.shape), _packed(values)] for index, values in found.items()]
        self.append({"prompts": prompts, "seconds": seconds})

    def take(self, row: dict[str, Any]) -> None:
        """Take up one batch."""
        found = {int(index): _unpacked(text).reshape(shape) for index, shape, text in row["prompts"]}
        self.seconds += float(row["seconds"])
        self.done.update(found)


class MeasuredPoints(UnfinishedWork):
    """Points of a pruning curve, each whole."""

    def __init__(self, path: Path, identity: str) -> None:
        self.done: dict[str, dict[str, Any]] = {}
        super().__init__(path, identity)

    def take(self, row: dict[str, Any]) -> None:
        """Take up one point."""
        self.done[str(row["point"])] = row["result"]


def _packed(values: NDArray[np.float32]) -> str:
    return base64.b64encode(zlib.compress(values.astype("<f4").tobytes(), 1)).decode("ascii")


def _unpacked(text: str) -> NDArray[np.float32]:
    import numpy as np

    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(f"not whole: {error}") from error
    return np.frombuffer(content, dtype="<f4")

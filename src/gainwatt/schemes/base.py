"""What the registry says about a quantization scheme. Only the standard library is needed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["dense", "bitsandbytes", "llmcompressor", "autoawq", "llamacpp"]
"""The tool that makes a checkpoint of the scheme; `dense` schemes are the variant's own checkpoint."""


@dataclass(frozen=True)
class Loader:
    """One engine that reads the scheme's checkpoints, and what it needs for that.

    `capability` is the lowest CUDA compute capability, None where the engine needs no GPU of a certain age; `cpu` says
    whether the engine runs the scheme on a machine without GPU. `kernel` says in words what multiplies the matrices.
    """

    engine: str
    environment: str
    cpu: bool = True
    capability: tuple[int, int] | None = None
    kernel: str = ""


@dataclass(frozen=True)
class Scheme:
    """One way of storing the weights.

    `stored_bits` are the bits per weight of a quantized linear layer without scales, `bits_per_weight` with scales and
    zero points, before any tensor that the scheme leaves unquantized. `group_size` weights share a scale (None: a
    whole row does); where `whole_groups` is true a row must hold whole groups. `compute_dtype` is the type of the
    matrix products, None where the study decides. `calibrated` says whether the scheme looks at text. `environment`
    is where the checkpoint is made, each loader's own is where it is read.
    """

    name: str
    kind: Kind
    stored_bits: int
    loaders: tuple[Loader, ...]
    bits_per_weight: float | None = None
    compute_dtype: str | None = None
    calibrated: bool = False
    environment: str = "core"
    group_size: int | None = None
    whole_groups: bool = False
    options: dict[str, object] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """True where the scheme is the variant's own checkpoint, loaded in another type."""
        return self.kind == "dense"

    @property
    def engines(self) -> tuple[str, ...]:
        """Names of the engines that can load the scheme, the preferred one first."""
        return tuple(loader.engine for loader in self.loaders)

    def loader(self, engine: str) -> Loader | None:
        """How `engine` reads the scheme; None where it cannot."""
        return next((loader for loader in self.loaders if loader.engine == engine), None)

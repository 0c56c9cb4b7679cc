"""The quantization schemes that a study may name, and what each of them is.

One entry per scheme says how its checkpoint is made, in which type the unquantized weights compute, and which
engines can load it. Importing this module needs only the standard library.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Literal

from gainwatt.errors import InputError

Kind = Literal["dense", "bitsandbytes", "llmcompressor"]


@dataclass(frozen=True)
class Scheme:
    """One way of storing the weights.

    `stored_bits` are the bits per weight of a quantized linear layer without scales; `calibrated` says whether the
    scheme looks at text; `compute_dtype` is the type of the matrix products, None where the study decides.
    """

    name: str
    kind: Kind
    stored_bits: int
    compute_dtype: str | None = None
    calibrated: bool = False
    environment: str = "core"
    engines: tuple[str, ...] = ("transformers",)
    group_size: int | None = None
    options: dict[str, object] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """True where the scheme is the variant's own checkpoint, loaded in another type."""
        return self.kind == "dense"


_ALL = (
    Scheme("fp32", "dense", 32, "fp32", engines=("transformers",)),
    Scheme("bf16", "dense", 16, "bf16", engines=("transformers", "vllm")),
    Scheme("fp16", "dense", 16, "fp16", engines=("transformers", "vllm")),
    Scheme(
        "bnb-nf4",
        "bitsandbytes",
        4,
        group_size=64,
        options={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    ),
    Scheme(
        "awq-w4g128",
        "llmcompressor",
        4,
        calibrated=True,
        group_size=128,
        engines=("transformers", "vllm"),
        options={"scheme": "W4A16_ASYM"},
    ),
)

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}


def get_scheme(name: str) -> Scheme:
    """The scheme called `name`. Raises InputError naming the closest scheme and all of them."""
    if name in SCHEMES:
        return SCHEMES[name]
    close = difflib.get_close_matches(name, SCHEMES, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"there is no quantization scheme {name!r}", f"{guess}the schemes are: {', '.join(SCHEMES)}")

"""The quantization schemes that a study may name, and what each of them is.

One module per family; each holds a tuple `SCHEMES`. A new scheme is an entry there, or a new module named in
`_FAMILIES`. Importing this package needs only the standard library.
"""

from __future__ import annotations

import difflib

from gainwatt.errors import InputError
from gainwatt.schemes import awq, bitsandbytes, dense, fp8, gguf, gptq
from gainwatt.schemes.base import Loader, Scheme

__all__ = ["SCHEMES", "Loader", "Scheme", "get_scheme"]

_FAMILIES = (dense, bitsandbytes, awq, gptq, fp8, gguf)

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for family in _FAMILIES for scheme in family.SCHEMES}


def get_scheme(name: str) -> Scheme:
    """The scheme called `name`. Raises InputError naming the closest scheme and all of them."""
    if name in SCHEMES:
        return SCHEMES[name]
    close = difflib.get_close_matches(name, SCHEMES, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"there is no quantization scheme {name!r}", f"{guess}the schemes are: {', '.join(SCHEMES)}")

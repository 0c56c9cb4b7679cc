"""How often each item is drawn in each bootstrap resample, shared by everything that resamples the same items."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gainwatt.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 2**20  # counts in one block: small enough for the processor's cache, large enough for a matrix product


def resampled_sums(values: NDArray[Any], *, draws: int, seed: int | tuple[int, ...]) -> NDArray[Any]:
    """Sums over items of `values`, shape (items, columns), in each of `draws` resamples: shape (draws, columns).

    Each resample draws as many items as there are, with replacement, the same ones in every column (Efron &
    Tibshirani, "An Introduction to the Bootstrap", 1993). The same number of items and the same seed give the same
    resamples in every call, so that what is computed from several calls stays paired. The sums are matrix products in
    the type of `values`; small integers in float32 are summed exactly. Raises InputError for no draws.
    """
    import numpy as np

    if draws < 1:
        raise InputError(f"{draws} bootstrap draws were asked for", "give at least 1,000")
    items, columns = values.shape
    size = max(1, _BLOCK // items)
    seeds = seed if isinstance(seed, tuple) else (seed,)
    sums = np.empty((draws, columns), dtype=values.dtype)
    for block, start in enumerate(range(0, draws, size)):
        part = sums[start : start + size]
        part[:] = _counts(items, size, seeds, block)[: len(part)].astype(values.dtype) @ values
    return sums


@lru_cache(maxsize=64)
def _counts(items: int, size: int, seed: tuple[int, ...], block: int) -> NDArray[np.uint8]:
    """Counts of `size` resamples, shape (size, items); that one exceeds 255 has a chance below 1e-500."""
    import numpy as np

    drawn = np.random.default_rng((*seed, block)).integers(0, items, size=(size, items), dtype=np.int32)
    drawn += np.arange(size, dtype=np.int32)[:, None] * items
    counts = np.bincount(drawn.ravel(), minlength=size * items).astype(np.uint8).reshape(size, items)
    counts.setflags(write=False)
    return counts

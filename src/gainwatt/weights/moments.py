"""Distribution statistics of one tensor, exact for its stored type, from one pass over its blocks.

A 16-bit type has 65,536 values: the histogram over bit patterns holds all that mean, moments, median and outlier counts
need, and is cheaper than the power sums alone. A 32-bit tensor takes three passes: moments (in float64, merged block by
block after Pébay, Sandia report SAND2008-6212) with a histogram over the upper 16 bits of |w|; the lower 16 bits inside
the median's bin; the count above the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

PATTERNS = 1 << 16
_SIGNLESS = 0x7FFFFFFF
Blocks = Callable[[], Iterable[Any]]
"""Starts a new pass over a tensor's blocks."""


@dataclass(frozen=True)
class Distribution:
    """Statistics of n elements; `std` and `kurtosis` (m4 / var², 3 for a normal) are those of the population.

    `median_abs` is the lower median, an element's own value. `outliers` counts |w| > multiplier · median|w|.
    """

    numel: int
    mean: float
    mean_abs: float
    mean_sq: float
    std: float
    kurtosis: float | None
    max_abs: float
    median_abs: float
    threshold: float
    outliers: int
    finite: bool


class Histogram16:
    """Histogram over the bit patterns of a 16-bit floating type; `add` takes blocks, `result` evaluates."""

    def __init__(self, multiplier: float) -> None:
        self._multiplier = multiplier
        self._counts: Any = None
        self._dtype: Any = None

    def add(self, block: Any) -> None:
        """Count the elements of a block of any shape."""
        import torch

        bits = block.reshape(-1).view(torch.int16).to(torch.int32).bitwise_and_(PATTERNS - 1)
        counts = torch.bincount(bits, minlength=PATTERNS)
        self._counts = counts if self._counts is None else self._counts.add_(counts)
        self._dtype = block.dtype

    def result(self) -> Distribution:
        """The statistics of everything added so far (at least one element)."""
        import numpy as np
        import torch

        patterns = torch.arange(PATTERNS, dtype=torch.int32).to(torch.int16)
        values = patterns.view(self._dtype).double().numpy()
        counts = self._counts.cpu().numpy()
        used = counts > 0
        values, counts = values[used], counts[used]
        numel = int(counts.sum())
        if not np.isfinite(values).all():
            return _not_finite(numel)
        magnitudes = np.abs(values)
        order = np.argsort(magnitudes)
        below = np.cumsum(counts[order])
        median = float(magnitudes[order][np.searchsorted(below, (numel + 1) // 2)])
        mean = float(values @ counts / numel)
        squares = (values - mean) ** 2
        variance = float(squares @ counts / numel)
        threshold = self._multiplier * median
        return Distribution(
            numel=numel,
            mean=mean,
            mean_abs=float(magnitudes @ counts / numel),
            mean_sq=float(magnitudes**2 @ counts / numel),
            max_abs=float(magnitudes.max()),
            median_abs=median,
            threshold=threshold,
            outliers=int(counts[magnitudes > threshold].sum()),
            std=math.sqrt(variance),
            kurtosis=_kurtosis(variance, float(squares**2 @ counts / numel)),
            finite=True,
        )


class PowerSums32:
    """Moments and median of an fp32 tensor; `result` reads the tensor two more times."""

    def __init__(self, multiplier: float) -> None:
        self._multiplier = multiplier
        self._moments: tuple[int, float, float, float, float] = (0, 0.0, 0.0, 0.0, 0.0)
        self._abs_sum = 0.0
        self._max = 0.0
        self._upper: Any = None

    def add(self, block: Any) -> None:
        """First pass: moments, maximum, histogram over the upper 16 bits of |w|."""
        import torch

        bits = _magnitude_bits(block)
        counts = torch.bincount(bits >> 16, minlength=PATTERNS // 2)
        self._upper = counts if self._upper is None else self._upper.add_(counts)
        wide = block.reshape(-1).double()
        mean = float(wide.mean())
        self._abs_sum += float(wide.abs().sum())
        self._max = max(self._max, float(wide.abs().max()))
        wide -= mean
        square = wide * wide
        m3, m4 = float(square @ wide), float(square @ square)
        self._moments = _merge(self._moments, (wide.numel(), mean, float(square.sum()), m3, m4))

    def result(self, blocks: Blocks) -> Distribution:
        """The statistics of the tensor whose blocks were added; `blocks` starts another pass over them."""
        import torch

        numel, mean, m2, _, m4 = self._moments
        if int(self._upper[0x7F80:].sum()):  # exponent of ones: infinity or not a number
            return _not_finite(numel)
        upper, before = _find(self._upper, (numel + 1) // 2)
        lower = torch.zeros(PATTERNS, dtype=torch.int64, device=self._upper.device)
        for block in blocks():
            bits = _magnitude_bits(block)
            lower += torch.bincount(bits[(bits >> 16) == upper] & (PATTERNS - 1), minlength=PATTERNS)
        low, _ = _find(lower, (numel + 1) // 2 - before)
        median = _float32(upper << 16 | low)
        threshold = self._multiplier * median
        limit = _bits_of_floor(threshold)
        outliers = sum(int((_magnitude_bits(block) > limit).sum()) for block in blocks())
        return Distribution(
            numel=numel,
            mean=mean,
            mean_abs=self._abs_sum / numel,
            mean_sq=m2 / numel + mean**2,
            max_abs=self._max,
            median_abs=median,
            threshold=threshold,
            outliers=outliers,
            std=math.sqrt(m2 / numel),
            kurtosis=_kurtosis(m2 / numel, m4 / numel),
            finite=True,
        )


def _magnitude_bits(block: Any) -> Any:
    """Bit patterns of |w|; as integers they are ordered as the values are."""
    import torch

    return block.reshape(-1).view(torch.int32) & _SIGNLESS


def _find(counts: Any, rank: int) -> tuple[int, int]:
    """The bin that holds the element of this rank (from 1), and how many elements lie before that bin."""
    import torch

    below = torch.cumsum(counts, 0)
    place = int(torch.searchsorted(below, rank))
    return place, int(below[place] - counts[place])


def _float32(bits: int) -> float:
    import numpy as np

    return float(np.uint32(bits).view(np.float32))


def _bits_of_floor(value: float) -> int:
    """Bit pattern of the largest fp32 that is not above `value` (≥ 0): x > value holds where x's pattern is greater."""
    import numpy as np

    with np.errstate(over="ignore"):
        nearest = np.float32(value)
    if float(nearest) > value:
        nearest = np.nextafter(nearest, np.float32(0))
    return int(nearest.view(np.uint32))


def _kurtosis(variance: float, fourth: float) -> float | None:
    return fourth / variance**2 if variance**2 > 0 else None


def _not_finite(numel: int) -> Distribution:
    nan = math.nan
    return Distribution(numel, nan, nan, nan, nan, None, nan, nan, nan, 0, finite=False)


def _merge(
    one: tuple[int, float, float, float, float], two: tuple[int, float, float, float, float]
) -> tuple[int, float, float, float, float]:
    """Count, mean and central sums of powers 2 to 4 of two sets together."""
    na, ma, a2, a3, a4 = one
    nb, mb, b2, b3, b4 = two
    if na == 0:
        return two
    n = na + nb
    d = mb - ma
    m2 = a2 + b2 + d**2 * na * nb / n
    m3 = a3 + b3 + d**3 * na * nb * (na - nb) / n**2 + 3 * d * (na * b2 - nb * a2) / n
    m4 = (
        a4 + b4 + d**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
        + 6 * d**2 * (na**2 * b2 + nb**2 * a2) / n**2 + 4 * d * (na * b3 - nb * a3) / n
    )  # fmt: skip
    return n, ma + d * nb / n, m2, m3, m4

"""Two cells on the same items: the difference of their accuracies, its interval and its exact test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gainwatt.errors import InputError
from gainwatt.stats.resample import binary, bootstrap_interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Difference:
    """Accuracy of b minus accuracy of a over the same `n` items.

    `improved` items are wrong in a and right in b, `worsened` the other way round; `p_value` is McNemar's exact one.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    n: int
    improved: int
    worsened: int


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value of McNemar's test for `b` and `c` discordant pairs.

    With no difference each discordant pair falls either way with probability 1/2, so p = min(1, 2·P(X ≤ min(b, c)))
    for X ~ Binomial(b + c, 1/2), summed in integers. 1.0 without discordant pairs. Source: Q. McNemar,
    Psychometrika 12 (1947) 153-157; exact form in Agresti, "Categorical Data Analysis", section on matched pairs.
    Raises InputError for negative counts.
    """
    if b < 0 or c < 0:
        raise InputError(f"McNemar's test was given {b} and {c} discordant pairs", "counts cannot be negative")
    n = b + c
    return min(1.0, 2 * _lower_tail(min(b, c), n) / 2**n)


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, draws: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Compare two cells by their 0/1 scores over the same items, in the same order, both of shape (items,).

    The estimate is mean(b) − mean(a); its interval is the percentile bootstrap over items (`bootstrap_interval`)
    and may, in small samples, leave out the zero that the exact p-value keeps, or the reverse. Raises InputError for
    arrays of different length, empty ones, or values other than 0 and 1.
    """
    before, after = binary(a, "a"), binary(b, "b")
    if before.ndim != 1 or before.shape != after.shape:
        raise InputError(
            f"a paired comparison needs the same items on both sides, not {before.shape} and {after.shape}",
            "evaluate both cells on the same items, one score each",
        )
    change = after - before
    interval = bootstrap_interval(change, draws=draws, seed=seed, confidence=confidence)
    improved, worsened = int((change == 1).sum()), int((change == -1).sum())
    return Difference(
        estimate=(improved - worsened) / change.size,
        low=interval.low,
        high=interval.high,
        p_value=mcnemar_exact(improved, worsened),
        n=change.size,
        improved=improved,
        worsened=worsened,
    )


def sign_flip_exact(values: Iterable[int]) -> float:
    """Two-sided exact p-value that integers of −2 … 2 are symmetric about zero, by their sum.

    Each value keeps its size and takes either sign with probability 1/2; p is the share of sign patterns whose sum
    is at least as far from zero as the observed one. Without values of ±2 this is McNemar's exact test. Source: the
    randomisation test of E. J. G. Pitman, Suppl. J. R. Stat. Soc. 4 (1937) 119-130, counted in integers. Raises
    InputError for values beyond ±2.
    """
    values = [int(value) for value in values]
    if any(abs(value) > 2 for value in values):
        raise InputError("the sign test was given a value beyond ±2", "give differences of differences of 0/1 scores")
    ones, twos = (sum(abs(value) == size for value in values) for size in (1, 2))
    distance = abs(sum(values))
    if distance == 0:
        return 1.0
    # P(sum >= distance) by symmetry of both tails: j of the twos and i of the ones are positive.
    upper, ways = 0, 1
    tails = _upper_tails(ones)
    for j in range(twos + 1):
        needed = distance - 2 * (2 * j - twos)
        least = max(0, -(-(needed + ones) // 2))
        upper += ways * (tails[least] if least <= ones else 0)
        ways = ways * (twos - j) // (j + 1)
    return min(1.0, 2 * upper / 2 ** (ones + twos))


def _lower_tail(k: int, n: int) -> int:
    """Sum of the binomial coefficients C(n, 0) … C(n, k)."""
    total = term = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        total += term
    return total


def _upper_tails(n: int) -> list[int]:
    """For each k from 0 to n, the sum of C(n, k) … C(n, n)."""
    tails, term = [1], 1
    for i in range(n):
        term = term * (n - i) // (i + 1)
        tails.append(tails[-1] + term)
    return tails[::-1]

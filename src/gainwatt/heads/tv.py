"""Total-variation distance between two kinds of prompts, its null distribution, and an estimate without its bias.

For each head, every token gives one number. Both sides share the bins: quantiles of both together, each pair counting
the same. A prompt's histogram h sums to 1 whatever its length; with d_i = h(first) − h(second) of pair i and n pairs,

    TV = ½ Σ_bins |mean_i d_i|                                                              (plug-in)

Tokens of one prompt are not independent, prompts are: the unit of everything below is the pair.

Null. Where the kinds do not differ, the labels of a pair may be swapped: d_i becomes −d_i. The p-value is the share of
swaps (all of them where they are few, else a random draw with the observed one counted in) whose TV is at least the
observed one; bins and lengths stay the same under a swap, so that the test is exact. Over the heads: Benjamini and
Hochberg's q, and beside it the family-wise p of the largest standardised TV among all heads (Westfall and Young,
"Resampling-based multiple testing", 1993), which holds whatever the dependence of the heads.

Bias. The plug-in is too large: noise in any bin adds to it, and at no difference its mean is that of the null
(`null_mean`), not zero. `crossfit` errs to the other side: the set of bins in which the first kind is more frequent is
chosen on one half of the pairs and applied to the other, e_i = ½ Σ_bins sign(Σ_{j in the other half} d_j) · d_i, both
ways, averaged over all pairs and `SPLITS` random halvings. Its expectation is 0 without a difference and never above
the true TV: such a set is a witness, and every witness bounds TV from below (the supremum over witnesses is TV:
Sriperumbudur et al., Electron. J. Stat. 6 (2012) 1550-1599). So E crossfit <= TV <= E plug-in, and the interval is
[crossfit − t · s, plug-in + t · s], cut to [0, 1]. Given its witness, the mean over one half has the standard error
s = sd(e_i) / √(n/2); averages of such means have no larger one, whatever the halves have in common.
benchmarks/heads_fdr.py tells how often all this holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gainwatt.heads.pairs import Frame, Pair
from gainwatt.stats.multiple import benjamini_hochberg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NULL_BINS = 200
SPLITS = 20
_CLOSE = 1e-12
_CHUNK = 2048


@dataclass(frozen=True)
class Contrast:
    """Results by head, each of shape (heads,), but `differences` (pairs, heads, bins): the d_i of the module's text.

    `stderr` is the s of the module's text.
    `null_counts`: how often the relabelled TV of any head fell into each of `NULL_BINS` bins over [0, 1]. `p_floor` is
    the smallest p-value that so many pairs and relabellings can give.
    """

    tv: NDArray[np.float64]
    crossfit: NDArray[np.float64]
    stderr: NDArray[np.float64]
    null_mean: NDArray[np.float64]
    null_q95: NDArray[np.float64]
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    p_family: NDArray[np.float64]
    differences: NDArray[np.float64]
    null_counts: NDArray[np.int64]
    p_floor: float
    exact: bool
    mean_first: NDArray[np.float64]
    mean_second: NDArray[np.float64]


def contrast(
    values: dict[int, NDArray[Any]], pairs: Sequence[Pair], frame: Frame, *, bins: int, permutations: int, seed: int
) -> Contrast:
    """Compare the two sides of `pairs`; `values` by prompt has the shape (tokens, heads)."""
    import numpy as np

    first = [values[pair.first][frame.before :][: pair.tokens] for pair in pairs]
    second = [values[pair.second][frame.before :][: pair.tokens] for pair in pairs]
    differences = histogram_differences(first, second, bins)
    found = permute(differences, permutations=permutations, seed=seed)
    means = [np.mean([side.mean(axis=0, dtype=np.float64) for side in sides], axis=0) for sides in (first, second)]
    return Contrast(**found, mean_first=means[0], mean_second=means[1])


def histogram_differences(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]], bins: int) -> NDArray[Any]:
    """The d_i of the module's text, shape (pairs, heads, bins); both sides of a pair have the shape (tokens, heads).

    Edges are quantiles of all tokens of both sides, weighted so that each pair counts the same: swapping labels within
    pairs does not move them, and no outlier stretches them.
    """
    import numpy as np

    heads = first[0].shape[1]
    pooled = np.concatenate([*first, *second]).astype(np.float64)
    weights = np.concatenate([np.full(len(side), 1 / len(side)) for side in (*first, *second)])
    edges = np.empty((heads, bins - 1))
    for head in range(heads):
        order = np.argsort(pooled[:, head], kind="stable")
        reached = np.cumsum(weights[order]) / weights.sum()
        places = np.searchsorted(reached, np.arange(1, bins) / bins - _CLOSE)
        edges[head] = pooled[order[places], head]
    differences = np.empty((len(first), heads, bins))
    for i, (one, two) in enumerate(zip(first, second, strict=True)):
        differences[i] = _histogram(one, edges) - _histogram(two, edges)
    return differences


def permute(differences: NDArray[Any], *, permutations: int, seed: int) -> dict[str, Any]:
    """TV, its null and the cross-fitted estimate from d_i of shape (pairs, heads, bins); fields of `Contrast`."""
    import numpy as np

    n, heads, _ = differences.shape
    total = differences.sum(axis=0)
    tv = 0.5 * np.abs(total).sum(axis=1) / n
    signs, exact = relabellings(n, permutations, seed)
    at_least = np.zeros(heads)
    null_mean, null_sd, null_q95 = np.empty(heads), np.empty(heads), np.empty(heads)
    largest = np.full(len(signs), -np.inf)
    counts = np.zeros(NULL_BINS, dtype=np.int64)
    for head in range(heads):
        null = np.concatenate(
            [
                0.5 * np.abs(signs[start : start + _CHUNK] @ differences[:, head]).sum(axis=1) / n
                for start in range(0, len(signs), _CHUNK)
            ]
        )
        at_least[head] = (null >= tv[head] - _CLOSE).sum()
        null_mean[head], null_sd[head], null_q95[head] = null.mean(), null.std(), np.quantile(null, 0.95)
        np.maximum(largest, _standard(null, null_mean[head], null_sd[head]), out=largest)
        counts += np.histogram(null, bins=NULL_BINS, range=(0.0, 1.0))[0]
    # A full enumeration holds the observed labels already.
    extra = 0 if exact else 1
    p = (at_least + extra) / (len(signs) + extra)
    standard = [_standard(tv[head], null_mean[head], null_sd[head]) for head in range(heads)]
    above = np.array([(largest >= value - _CLOSE).sum() for value in standard])
    estimate, stderr = crossfit(differences, seed)
    return {
        "tv": tv,
        "crossfit": estimate,
        "stderr": stderr,
        "null_mean": null_mean,
        "null_q95": null_q95,
        "p": p,
        "q": np.array(benjamini_hochberg(p.tolist())),
        "p_family": (above + extra) / (len(signs) + extra),
        "differences": differences,
        "null_counts": counts,
        "p_floor": 1 / len(signs) if exact else 1 / (len(signs) + 1),
        "exact": exact,
    }


def _standard(values: Any, mean: float, sd: float) -> Any:
    """Distance from the head's own null in its standard deviations: heads of unlike noise become comparable."""
    return (values - mean) / sd if sd > 0 else values * 0.0


def crossfit(differences: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The estimate that errs downwards, and its standard error; d_i of shape (pairs, heads, bins)."""
    return _crossfit([differences], seed)


def crossfit_change(before: NDArray[Any], after: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """After minus before of two models on the same pairs, and its standard error; both halved alike."""
    return _crossfit([after, before], seed)


def _crossfit(sides: Sequence[NDArray[Any]], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first side, less the second where there is one."""
    import numpy as np

    n, heads, _ = sides[0].shape
    rng = np.random.default_rng((seed, n))
    estimate, variance = np.zeros(heads), np.zeros(heads)
    for _ in range(SPLITS):
        order = rng.permutation(n)
        halves = order[: n // 2], order[n // 2 :]
        held_out = np.empty((n, heads))
        for chosen, applied in (halves, halves[::-1]):
            parts = [0.5 * (np.sign(d[chosen].sum(axis=0)) * d[applied]).sum(axis=2) for d in sides]
            held_out[applied] = parts[0] if len(parts) == 1 else parts[0] - parts[1]
        estimate += held_out.mean(axis=0) / SPLITS
        variance += held_out.var(axis=0, ddof=1) / SPLITS
    return estimate, np.sqrt(variance / (n / 2))


def relabellings(n: int, permutations: int, seed: int) -> tuple[NDArray[Any], bool]:
    """Signs of the pairs under each relabelling, shape (relabellings, pairs), and whether these are all there are.

    Swapping every pair gives the same TV, so that the first pair can keep its sign.
    """
    import numpy as np

    if n - 1 < 40 and 2 ** (n - 1) <= permutations:
        codes = np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1) & 1
        return np.concatenate([np.ones((len(codes), 1)), 1.0 - 2.0 * codes], axis=1), True
    drawn = np.random.default_rng(seed).integers(0, 2, size=(permutations, n), dtype=np.int8)
    return 1.0 - 2.0 * drawn, False


def _histogram(side: NDArray[Any], edges: NDArray[Any]) -> NDArray[Any]:
    """Share of the tokens in each bin, shape (heads, bins)."""
    import numpy as np

    heads, bins = edges.shape[0], edges.shape[1] + 1
    places = np.stack([np.searchsorted(edges[head], side[:, head].astype(np.float64)) for head in range(heads)])
    flat = (places + bins * np.arange(heads)[:, None]).ravel()
    return np.bincount(flat, minlength=heads * bins).reshape(heads, bins) / side.shape[0]

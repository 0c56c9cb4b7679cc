"""How often head scores err, for known truths: `python benchmarks/heads_fdr.py` prints one row per number of pairs and
share of heads that differ.

Each simulated study has heads whose values per token are normal: a part that the tokens of a prompt share (so that
tokens are not independent), a part that the heads of a layer share (so that heads are not), and a part of their own. In
the heads that differ the mean of the second kind is moved. Everything else is `gainwatt.heads.tv`, as in a real study.

some false   share of studies with at least one false discovery at the rate asked for
FDR          mean share of false ones among the discoveries (0 where there are none)
power        share of the differing heads that were found
plug-in      mean of the plug-in distance minus the true one, over the differing heads and over the others
cross-fit    the same of the estimate that errs downwards
holds        share of the intervals that hold the true distance, over the differing heads and over the others
width        mean width of the intervals, likewise
"""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np

from gainwatt.heads.tv import histogram_differences, permute
from gainwatt.stats.student import two_sided_t
from gainwatt.tables.write import to_markdown

PROMPT_SD, LAYER_SD, OWN_SD = 0.5, 0.4, 1.0


def true_distance(shift: float, bins: int) -> float:
    """Distance of the two normal distributions over bins that are quantiles of both together."""
    sd = (PROMPT_SD**2 + LAYER_SD**2 + OWN_SD**2) ** 0.5
    first, second = NormalDist(0, sd), NormalDist(shift, sd)
    grid = np.linspace(-8 * sd, shift + 8 * sd, 200_001)
    pooled = np.array([(first.cdf(x) + second.cdf(x)) / 2 for x in grid])
    edges = grid[np.searchsorted(pooled, np.arange(1, bins) / bins)]
    masses = [np.diff([0.0, *(side.cdf(x) for x in edges), 1.0]) for side in (first, second)]
    return float(0.5 * np.abs(masses[0] - masses[1]).sum())


def draw(rng: np.random.Generator, pairs: int, args: argparse.Namespace, different: int) -> list[list[np.ndarray]]:
    """Both kinds: by pair an array of shape (tokens, heads); the first `different` heads differ."""
    layers = args.heads // args.heads_per_layer
    sides = []
    for side in range(2):
        prompts = []
        for _ in range(pairs):
            tokens = int(rng.integers(args.tokens // 2, args.tokens + 1))
            own = rng.normal(0, OWN_SD, (tokens, args.heads)) + rng.normal(0, PROMPT_SD, (1, args.heads))
            shared = np.repeat(rng.normal(0, LAYER_SD, (tokens, layers)), args.heads_per_layer, axis=1)
            values = own + shared
            values[:, :different] += args.shift * side
            prompts.append(values)
        sides.append(prompts)
    for one, two in zip(*sides, strict=True):  # as the pairing of prompts does: one length
        keep = min(len(one), len(two))
        one.resize((keep, args.heads), refcheck=False)
        two.resize((keep, args.heads), refcheck=False)
    return sides


def simulate(pairs: int, different: int, args: argparse.Namespace) -> dict[str, float | int | str | None]:
    """One row."""
    rng = np.random.default_rng((args.seed, pairs, different))
    truth = np.where(np.arange(args.heads) < different, true_distance(args.shift, args.bins), 0.0)
    found: dict[str, list[np.ndarray]] = {"q": [], "plug": [], "cross": [], "holds": [], "width": []}
    t = two_sided_t(0.95, pairs // 2 - 1)
    for study in range(args.studies):
        first, second = draw(rng, pairs, args, different)
        result = permute(histogram_differences(first, second, args.bins), permutations=args.permutations, seed=study)
        found["q"].append(result["q"] <= args.fdr)
        found["plug"].append(result["tv"] - truth)
        found["cross"].append(result["crossfit"] - truth)
        low = np.maximum(0, result["crossfit"] - t * result["stderr"])
        high = np.minimum(1, result["tv"] + t * result["stderr"])
        found["holds"].append((low <= truth) & (truth <= high))
        found["width"].append(high - low)
    q = np.array(found["q"])
    false = q[:, different:].sum(axis=1)
    row: dict[str, float | int | str | None] = {
        "pairs": pairs, "heads that differ": different, "studies": args.studies,
        "some false": float((false > 0).mean()),
        "FDR": float((false / np.maximum(1, q.sum(axis=1))).mean()),
        "power": float(q[:, :different].mean()) if different else None,
    }  # fmt: skip
    for name, key in (("plug-in", "plug"), ("cross-fit", "cross"), ("holds", "holds"), ("width", "width")):
        values = np.array(found[key])
        row[f"{name}, differing"] = float(values[:, :different].mean()) if different else None
        row[f"{name}, others"] = float(values[:, different:].mean()) if different < args.heads else None
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("studies", 200), ("heads", 96), ("heads-per-layer", 12), ("tokens", 40), ("bins", 16), ("permutations", 2000),
        ("seed", 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--pairs", type=int, nargs="+", default=[10, 32], metavar="N")
    parser.add_argument("--shift", type=float, default=0.6, help="difference of the means, own noise has sd 1")
    parser.add_argument("--fdr", type=float, default=0.05)
    args = parser.parse_args()
    rows = [
        simulate(pairs, different, args) for pairs in args.pairs for different in (0, args.heads // 20, args.heads // 2)
    ]
    print(f"true distance of a differing head: {true_distance(args.shift, args.bins):.3f}\n")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()

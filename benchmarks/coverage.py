"""How often the intervals hold the truth, and how often each verdict falls, for known truths: simulated cells.

`wrong` is the share of verdicts that contradict the truth: *survives* where the margin or more is lost, *reduced* or
*erased* where nothing is lost, *erased* where half of the gain is left, any of them where there was no gain.

`python benchmarks/coverage.py` prints one row per truth and number of items. An item has one difficulty for all cells,
a cell answers the easiest items, and each answer is flipped by chance (`--flip`), so that two cells of equal accuracy
disagree on some items. With several training seeds each seed's two gains differ by chance (`--seed-sd`) too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from gainwatt.stats.intervals import wilson
from gainwatt.stats.survival import gain_survival
from gainwatt.tables.write import to_markdown

BASE = 0.6
VERDICTS = ("survives", "reduced", "erased", "undecided")


@dataclass(frozen=True)
class Truth:
    """Gains at the reference and under quantization, as shares of all items, and verdicts that would be wrong."""

    name: str
    reference: float
    quantized: float
    wrong: tuple[str, ...]


def truths(margin: float) -> list[Truth]:
    """Truths in the middle of each verdict and, hardest for the error rates, on its edges."""
    lost = ("reduced", "erased")
    return [
        Truth("all survives", 0.10, 0.10, lost),
        Truth("lost: half the margin", 0.10, 0.10 - margin / 2, ()),
        Truth("lost: the margin", 0.10, 0.10 - margin, ("survives",)),
        Truth("half is lost", 0.10, 0.05, ("survives", "erased")),
        Truth("all is lost", 0.10, 0.0, ("survives",)),
        Truth("no gain at all", 0.0, 0.0, ("survives", *lost)),
    ]


def draw(rng: np.random.Generator, truth: Truth, items: int, args: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """The four cells of one simulated study: base and trained at the reference, base and trained quantized."""
    ease = rng.random(items)

    def cell(share: np.ndarray) -> np.ndarray:
        # Flipping moves a share p to p + f - 2pf; the inverse keeps every cell's accuracy what the truth says.
        before = (share[:, None] - args.flip) / (1 - 2 * args.flip)
        return (ease < before) ^ (rng.random((len(share), items)) < args.flip)

    seeds = args.training_seeds
    wobble = rng.normal(0, args.seed_sd, (2, seeds)) if seeds > 1 else np.zeros((2, 1))
    base = [cell(np.array([BASE]))[0].astype(int) for _ in range(2)]
    trained = [cell(BASE + gain + wobble[k]).astype(int) for k, gain in enumerate((truth.reference, truth.quantized))]
    if seeds == 1:
        trained = [rows[0] for rows in trained]
    return base[0], trained[0], base[1], trained[1]


def simulate(truth: Truth, items: int, args: argparse.Namespace) -> dict[str, object]:
    """Shares over the repetitions of one truth."""
    rng = np.random.default_rng((args.seed, items, round(1e4 * truth.reference), round(1e4 * truth.quantized)))
    held = {"accuracy": 0, "gain": 0, "survival": 0}
    falls = dict.fromkeys(VERDICTS, 0)
    for repetition in range(args.repetitions):
        cells = draw(rng, truth, items, args)
        found = gain_survival(*cells, margin=args.margin, draws=args.draws, seed=repetition if args.fresh else 0)
        accuracy = wilson(int(cells[0].sum()), items)
        held["accuracy"] += accuracy.low <= BASE <= accuracy.high
        held["gain"] += found.delta_ref_interval.low <= truth.reference <= found.delta_ref_interval.high
        held["survival"] += found.low <= truth.quantized - truth.reference <= found.high
        falls[found.verdict] += 1
    n = args.repetitions
    row: dict[str, object] = {"truth": truth.name, "items": items}
    row |= {f"{name} held": f"{100 * count / n:.1f} %" for name, count in held.items()}
    row |= {verdict: f"{100 * count / n:.1f} %" for verdict, count in falls.items()}
    return row | {"wrong": f"{100 * sum(falls[verdict] for verdict in truth.wrong) / n:.1f} %" if truth.wrong else None}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100, 500, 1319], help="items per cell")
    parser.add_argument("--repetitions", type=int, default=1000, help="simulated studies per row (1000)")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws per interval (2000)")
    parser.add_argument("--margin", type=float, default=0.02, help="equivalence margin (0.02)")
    parser.add_argument("--flip", type=float, default=0.05, help="share of answers flipped by chance (0.05)")
    parser.add_argument("--training-seeds", type=int, default=1, help="training seeds (1)")
    parser.add_argument("--seed-sd", type=float, default=0.01, help="deviation of a gain over training seeds (0.01)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    parser.add_argument("--fresh", action="store_true", help="draw new resamples in every repetition (slower)")
    args = parser.parse_args()
    rows = [simulate(truth, items, args) for items in args.items for truth in truths(args.margin)]
    error = 100 * (0.95 * 0.05 / args.repetitions) ** 0.5
    print(to_markdown(rows))
    print(
        f"{args.repetitions} studies a row, {args.training_seeds} training seed(s), margin {100 * args.margin:g} "
        f"points, {args.draws} draws; nominal 95 %, simulation error ± {error:.1f} points (one standard error)."
    )


if __name__ == "__main__":
    main()

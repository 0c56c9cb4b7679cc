"""Time 10,000 bootstrap draws of gain survival on 1,319 items × 12 cells: `python benchmarks/bootstrap.py`.

Prints processor and wall seconds for one and for three training seeds; the best of three runs each, every one from
the start: resamples kept from the run before are forgotten.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from gainwatt.stats.counts import _counts
from gainwatt.stats.resample import _interval, _seed_weights, _single
from gainwatt.stats.survival import gain_survival


def cells(rng: np.random.Generator, count: int, seeds: int, items: int) -> list[list[np.ndarray]]:
    """`count` times four 0/1 arrays of a base and a trained model, at two precisions, right on 68 to 75 % of items."""
    ease = rng.beta(2.2, 0.9, items)
    made = []
    for _ in range(count):
        base = [(rng.random(items) < ease).astype(int) for _ in range(2)]
        trained = [(rng.random((seeds, items)) < np.minimum(ease + 0.04, 1)).astype(int) for _ in range(2)]
        made.append([base[0], trained[0], base[1], trained[1]])
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1319, help="items per cell (1319)")
    parser.add_argument("--cells", type=int, default=12, help="comparisons (12)")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap draws per interval (10000)")
    args = parser.parse_args()
    for seeds in (1, 3):
        arrays = cells(np.random.default_rng(0), args.cells, seeds, args.items)
        runs = []
        for _ in range(3):
            _counts.cache_clear()
            for kept in (_interval, _seed_weights, _single):
                kept.cache_clear()
            wall, cpu = time.perf_counter(), time.process_time()
            for four in arrays:
                gain_survival(*four, margin=0.02, draws=args.draws)
            runs.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall_s, cpu_s = min(runs)
        print(
            f"{args.draws} draws, {args.items} items, {args.cells} cells, {seeds} training seed(s): "
            f"{wall_s:.3f} s wall, {cpu_s:.3f} s processor"
        )


if __name__ == "__main__":
    main()

"""Accuracy, gain and gain survival of two sides: paired on the same items where they are the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from gainwatt.comparison.items import Answers, Key, Match, answers, match, usable
from gainwatt.comparison.judge import Compared
from gainwatt.comparison.sides import Side
from gainwatt.errors import RecordError
from gainwatt.stats.intervals import Interval, wilson
from gainwatt.stats.paired import paired_difference, sign_flip_exact
from gainwatt.stats.resample import bootstrap_means, percentile_interval
from gainwatt.study import BASE, Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNIT = "share of items"


@dataclass
class Settings:
    """How differences are tested: bootstrap draws, level of the intervals, seed."""

    draws: int = 10_000
    confidence: float = 0.95
    seed: int = 0


class Loader:
    """Reads the items of each cell once; a cell that cannot be read is refused by name."""

    def __init__(self) -> None:
        self.read = lru_cache(maxsize=None)(self._read)
        self._records: dict[str, Any] = {}

    def of(self, side: Side, cell: Cell) -> Answers:
        """The answers of a cell that `usable` accepts."""
        record = side.evaluations[cell]
        self._records[record["path"]] = record
        return self.read(record["path"])

    def _read(self, path: str) -> Answers:
        return answers(self._records[path])


def accuracy_rows(a: Side, b: Side, settings: Settings) -> list[Compared]:
    """One row per cell of either side, then the gain of each scheme, then its survival."""
    load = Loader()
    cells = sorted(a.evaluations.keys() | b.evaluations.keys())
    rows = [_accuracy(a, b, cell, load, settings) for cell in cells]
    trained = [variant for variant in a.trained if variant in b.trained]
    schemes = sorted({cell.scheme for cell in cells if cell.variant != BASE})
    for scheme in schemes:
        wanted = [[Cell(BASE, scheme)], [Cell(variant, scheme) for variant in trained]]
        rows.append(_contrast(a, b, "gain", scheme, wanted, load, settings))
    if a.reference is None or a.reference != b.reference:
        note = f"the reference schemes are {a.reference or 'unknown'} and {b.reference or 'unknown'}"
        return [*rows, Compared("survival", "every scheme", _UNIT, verdict="refused", note=note)]
    for scheme in schemes:
        if scheme != a.reference:
            wanted = [[Cell(BASE, scheme)], [Cell(variant, scheme) for variant in trained]]
            wanted += [[Cell(BASE, a.reference)], [Cell(variant, a.reference) for variant in trained]]
            rows.append(_contrast(a, b, "survival", scheme, wanted, load, settings))
    return rows


def _accuracy(a: Side, b: Side, cell: Cell, load: Loader, settings: Settings) -> Compared:
    empty = Compared("accuracy", cell.name, _UNIT)
    reason = usable(a, cell) or usable(b, cell)
    if reason is not None:
        return Compared("accuracy", cell.name, _UNIT, verdict="missing", note=reason)
    try:
        of_a, of_b = load.of(a, cell), load.of(b, cell)
    except RecordError as error:
        return Compared("accuracy", cell.name, _UNIT, note=error.what)
    found = match(a, b, [of_a], [of_b])
    if found.kind == "paired":
        return _paired(empty, of_a, of_b, found, settings)
    if found.kind == "unpaired":
        return _unpaired(empty, of_a, of_b, found, settings)
    return Compared("accuracy", cell.name, _UNIT, _mean(of_a), _mean(of_b), verdict="refused", note=found.note)


def _mean(cell: Answers) -> float:
    return sum(cell.correct.values()) / len(cell.correct)


def _paired(empty: Compared, of_a: Answers, of_b: Answers, found: Match, settings: Settings) -> Compared:
    left, right = ([cell.correct[key] for key in found.keys] for cell in (of_a, of_b))
    test = paired_difference(
        left, right, draws=settings.draws, confidence=settings.confidence, seed=settings.seed
    )  # fmt: skip
    note = f"{test.improved} items better, {test.worsened} worse" + (f"; {found.note}" if found.note else "")
    same = test.improved == test.worsened == 0
    return Compared(
        empty.quantity, empty.cell, _UNIT, sum(left) / test.n, sum(right) / test.n, test.estimate, None, test.low,
        test.high, test.n, "paired: exact McNemar, bootstrap interval", test.p_value,
        verdict="same" if same else "no difference shown", note=note,
    )  # fmt: skip


def _unpaired(empty: Compared, of_a: Answers, of_b: Answers, found: Match, settings: Settings) -> Compared:
    (right_a, n_a), (right_b, n_b) = ((sum(cell.correct.values()), len(cell.correct)) for cell in (of_a, of_b))
    p_value, interval = two_shares(right_a, n_a, right_b, n_b, settings.confidence)
    return Compared(
        empty.quantity, empty.cell, _UNIT, right_a / n_a, right_b / n_b, right_b / n_b - right_a / n_a, None,
        interval.low, interval.high, min(n_a, n_b), "unpaired: two-proportion z test, Newcombe interval", p_value,
        verdict="no difference shown", note=found.note,
    )  # fmt: skip


def two_shares(right_a: int, n_a: int, right_b: int, n_b: int, confidence: float) -> tuple[float, Interval]:
    """Two-sided p-value of two independent shares being equal, and the interval of b − a.

    z = (b − a) / √(p(1 − p)(1/n_a + 1/n_b)) with the pooled share p; interval by R. G. Newcombe, Statistics in
    Medicine 17 (1998) 873-890, method 10: d − √((b − l_b)² + (u_a − a)²) … d + √((u_b − b)² + (a − l_a)²) with Wilson's
    limits. A share of 0 or 1 on both sides gives p = 1.
    """
    a, b, pooled = right_a / n_a, right_b / n_b, (right_a + right_b) / (n_a + n_b)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    p_value = 1.0 if deviation == 0 else 2 * NormalDist().cdf(-abs(b - a) / deviation)
    of_a, of_b = wilson(right_a, n_a, confidence), wilson(right_b, n_b, confidence)
    low = (b - a) - math.hypot(b - of_b.low, of_a.high - a)
    high = (b - a) + math.hypot(of_b.high - b, a - of_a.low)
    return p_value, Interval(low, high)


def _contrast(
    a: Side, b: Side, quantity: str, scheme: str, wanted: list[list[Cell]], load: Loader, settings: Settings
) -> Compared:
    """Gain (base, trained) or survival (and both at the reference): per item and training seed, b minus a."""
    cells = [cell for group in wanted for cell in group]
    trained = [cell.variant for cell in wanted[1]]
    reasons = [reason for cell in cells for side in (a, b) if (reason := usable(side, cell)) is not None]
    if reasons or not trained:
        note = reasons[0] if reasons else "no trained variant is on both sides"
        return Compared(quantity, scheme, _UNIT, verdict="missing", note=note)
    try:
        of_a, of_b = ([load.of(side, cell) for cell in cells] for side in (a, b))
    except RecordError as error:
        return Compared(quantity, scheme, _UNIT, note=error.what)
    found = match(a, b, of_a, of_b)
    if found.kind == "refused":
        return Compared(quantity, scheme, _UNIT, note=found.note)
    left, right = _values(of_a, wanted, found.keys), _values(of_b, wanted, found.keys)
    about = f"{'+'.join(trained)}" + (f"; {found.note}" if found.note else "")
    return _tested(quantity, scheme, left, right, found.kind == "paired", about, settings)


def _values(cells: list[Answers], wanted: list[list[Cell]], keys: list[Key]) -> NDArray[Any]:
    """Contrasts of one side, shape (training seeds, items): trained − base, minus the same at the reference."""
    import numpy as np

    chosen = keys or sorted(set.intersection(*(set(cell.correct) for cell in cells)))
    scores = np.array([[cell.correct[key] for key in chosen] for cell in cells], dtype=np.int8)
    seeds = len(wanted[1])
    gain = scores[1 : 1 + seeds] - scores[0]
    if len(wanted) == 2:
        return np.asarray(gain)
    return np.asarray(gain - (scores[2 + seeds :] - scores[1 + seeds]))


def _tested(
    quantity: str, scheme: str, left: NDArray[Any], right: NDArray[Any], paired: bool, about: str, settings: Settings
) -> Compared:
    options = {"draws": settings.draws}
    if paired:
        change = right - left
        drawn = bootstrap_means(change, seed=(settings.seed, 1), **options)
        same = not change.any()
    else:
        drawn = bootstrap_means(right, seed=(settings.seed, 1), **options)
        drawn = drawn - bootstrap_means(left, seed=(settings.seed, 2), **options)
        same = False
    interval = percentile_interval(drawn, settings.confidence)
    exact = paired and change.shape[0] == 1 and abs(change).max() <= 2
    if exact:
        p_value, test = sign_flip_exact(change[0]), "exact sign flips, bootstrap interval"
    else:
        tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        p_value, test = min(1.0, 2 * (tail + 1) / (drawn.size + 1)), "bootstrap"
    over = "items and training seeds" if left.shape[0] > 1 else "items"
    return Compared(
        quantity, scheme, _UNIT, float(left.mean()), float(right.mean()), float(right.mean() - left.mean()), None,
        interval.low, interval.high, min(left.shape[1], right.shape[1]),
        f"{'paired' if paired else 'unpaired'}: {test} over {over}", p_value,
        verdict="same" if same else "no difference shown", note=about,
    )  # fmt: skip

"""Tokens and correct answers of every cell in each bootstrap resample, reckoned for many cells at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gainwatt.stats.counts import resampled_sums
from gainwatt.study import Cell
from gainwatt.study.operations import Statistics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CELLS = 64  # of one matrix product; tables go through the cells in order, so that few of these are kept
_KEPT = 3


class Resamples:
    """Sums over items in each resample; every cell has the same items, and the same ones are drawn for each."""

    def __init__(self, items: Mapping[Cell, dict[str, list[Any]]], statistics: Statistics) -> None:
        self._items, self._statistics = items, statistics
        self._cells = list(items)
        self._places = {cell: place for place, cell in enumerate(self._cells)}
        self._groups: dict[int, NDArray[np.float64]] = {}

    def of(self, cell: Cell) -> NDArray[np.float64]:
        """Sums of `tokens` (first row) and `correct` (second), shape (2, draws); not to be written to."""
        group, place = divmod(self._places[cell], _CELLS)
        if group not in self._groups:
            sums = self._reckoned(self._cells[group * _CELLS : (group + 1) * _CELLS])
            while len(self._groups) >= _KEPT:
                del self._groups[next(iter(self._groups))]
            self._groups[group] = sums
        self._groups[group] = self._groups.pop(group)  # the one used last goes last
        return self._groups[group][2 * place : 2 * place + 2]

    def _reckoned(self, cells: list[Cell]) -> NDArray[np.float64]:
        import numpy as np

        # Whole numbers in float64: their sums are exact in whatever order they are added.
        columns = [np.asarray(self._items[c][name], dtype=float) for c in cells for name in ("tokens", "correct")]
        settings = self._statistics
        sums = resampled_sums(np.stack(columns, axis=1), draws=settings.bootstrap_draws, seed=settings.seed)
        by_row = np.ascontiguousarray(sums.T)
        by_row.setflags(write=False)
        return by_row

"""How one table of the report is described."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableSpec:
    """How one table is shown.

    `source` is the CSV file's stem; `columns` are shown at once, all others on demand; `stages` name the records that
    it is made of; `empty` says why it may hold no row; an `optional` table that is not there is not spoken of; a
    `folded` one is shown closed.
    """

    source: str
    section: str
    title: str
    help: str
    columns: tuple[str, ...] = ()
    stages: tuple[str, ...] = ("evaluate_gsm8k",)
    transposed: bool = False
    only: bool = False
    optional: bool = False
    folded: bool = False
    empty: str = "No record holds what this table is made of yet."
    view: str = ""

    @property
    def key(self) -> str:
        """Identifies the table on the page."""
        return self.view or self.source

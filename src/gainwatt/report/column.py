"""One column of a table as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass

from gainwatt.report.formats import KINDS


@dataclass(frozen=True)
class Column:
    """One column: its key in the table, label, kind (see formats.KINDS), unit, help, and the key of an upper end."""

    key: str
    label: str
    kind: str = "number"
    unit: str = ""
    help: str = ""
    high: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return KINDS[self.kind][1]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of the table that the column shows."""
        return (self.key, self.high) if self.high else (self.key,)


def described(
    key: str, label: str, kind: str = "number", unit: str | None = None, text: str = "", high: str = ""
) -> Column:
    """A column whose unit is that of its kind unless one is given; `text` is its help."""
    return Column(key, label, kind, KINDS[kind][0] if unit is None else unit, text, high)

"""The pieces that sections are made of, each drawn by a macro of its own name in assets/macros.html.j2."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from gainwatt.report.charts import STATUS_TEXTS
from gainwatt.report.formats import is_number, percent
from gainwatt.report.material import Material
from gainwatt.report.registry import INVERTIBLE, SECTIONS
from gainwatt.study import schemes, variants


@dataclass(frozen=True)
class Block:
    """One piece: `kind` names the macro, `value` is what it draws."""

    kind: str
    value: Any


@dataclass
class Section:
    """A section with its heading; `blocks` is never empty when it is shown."""

    id: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The heading."""
        return SECTIONS[self.id][0]

    @property
    def short(self) -> str:
        """The name in the contents."""
        return SECTIONS[self.id][1]

    def add(self, kind: str, value: Any) -> None:
        """Append a piece."""
        self.blocks.append(Block(kind, value))


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn before, as a data URI."""

    key: str
    title: str
    help: str
    alt: str
    uri: str
    stages: tuple[str, ...]
    invertible: bool = False


@dataclass(frozen=True)
class GridCell:
    """One cell of the matrix: text, interval, shade from 0 to 9, and why there is no number."""

    text: str
    interval: str = ""
    shade: int = -1
    reason: str = ""
    status: str = "ok"


def picture(
    name: str, title: str, help_text: str, alt: str, content: bytes, kind: str, stages: tuple[str, ...]
) -> Picture:
    """A figure's file as a picture that needs no second file."""
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    uri = f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(name, title, "" if help_text == title else help_text, alt, uri, stages, name in INVERTIBLE)


def grid(material: Material) -> dict[str, Any]:
    """The matrix of accuracies: one line per variant, one column per scheme."""
    cells = {(row["variant"], row["precision"]): row for row in material.rows("accuracy_matrix")}
    known = [row["accuracy"] for row in cells.values() if is_number(row.get("accuracy"))]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    lines = []
    for variant in variants(material.study):
        line = [grid_cell(cells.get((variant, scheme), {}), low, high) for scheme in schemes(material.study)]
        lines.append((variant, line))
    return {"schemes": schemes(material.study), "lines": lines}


def grid_cell(row: dict[str, Any], low: float, high: float) -> GridCell:
    """One cell; its shade grows with the accuracy from the lowest to the highest of the study."""
    if not is_number(row.get("accuracy")):
        status = str(row.get("status") or "missing")
        reason = "" if status == "missing" else str(row.get("reason") or "")
        return GridCell(STATUS_TEXTS.get(status, status), "", -1, reason, status)
    value = row["accuracy"]
    shade = round(9 * (value - low) / (high - low)) if high > low else 5
    shown = ""
    if is_number(row.get("accuracy_low")) and is_number(row.get("accuracy_high")):
        shown = f"{percent(row['accuracy_low'])} – {percent(row['accuracy_high'])}"
    return GridCell(percent(value), shown, shade)

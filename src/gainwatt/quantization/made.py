"""What a tool hands back beside the checkpoint that it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Made:
    """`search_errors`: layer -> mean squared output error on calibration text, `initial` (plain rounding) and `best`
    (after the tool's search), for tools that search; empty for others. `about`: what the tool did by its own choice.
    """

    search_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

"""What a killed profile needs to go on: the loads that are finished, with everything that was measured under them."""

from __future__ import annotations

from typing import Any

from gainwatt.study.profiling_cells import Load
from gainwatt.unfinished import UnfinishedWork


class FinishedLoads(UnfinishedWork):
    """Load name -> its cells and its calls; and the machine's limits as they were measured last."""

    def __init__(self, *args: Any) -> None:
        self.done: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.limits: dict[str, Any] = {}
        super().__init__(*args)

    def take(self, row: dict[str, Any]) -> None:
        """Take up a finished load, or limits."""
        if "limits" in row:
            self.limits = dict(row["limits"])
            return
        self.done[row["load"]] = {"cells": list(row["cells"]), "calls": list(row["calls"])}

    def keep_limits(self, limits: dict[str, Any]) -> None:
        """Keep the machine's limits: a process that finds every load finished does not measure them."""
        self.append({"limits": limits})

    def add(self, load: Load, cells: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
        """Keep a load whose arms have all been measured together."""
        self.append({"load": load.name, "cells": cells, "calls": calls})

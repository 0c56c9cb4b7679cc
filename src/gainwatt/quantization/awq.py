"""AWQ as llm-compressor does it, with the per-layer errors kept. Importing this module imports llm-compressor."""

from __future__ import annotations

from typing import Any

from llmcompressor.modifiers.transform.awq import AWQModifier
from pydantic import PrivateAttr


class KeepingAWQModifier(AWQModifier):
    """AWQModifier that remembers the reconstruction errors which the original logs and forgets."""

    _kept: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    def _log_error_metrics(self) -> None:
        self._kept = [dict(entry) for entry in self._error_metrics]
        super()._log_error_metrics()

    def errors(self) -> dict[str, dict[str, float]]:
        """Layer name -> error without and with the scales that were found (mean squared, of the layer's output)."""
        return {
            str(entry["layer_name"]): {
                "initial": float(entry["initial_error"]),
                "best": float(entry["best_error"]),
            }
            for entry in self._kept
        }

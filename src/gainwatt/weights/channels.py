"""Maxima of output channels: the row maximum of |w|, and how many rows stand out."""

from __future__ import annotations

from typing import Any


class ChannelMaxima:
    """Collects the row maxima of |w| of consecutive blocks of rows in one array."""

    def __init__(self, rows: int) -> None:
        import numpy as np

        self.values = np.zeros(rows, dtype=np.float32)
        self._filled = 0

    def add(self, weights: Any) -> None:
        """Add the next fp32 block [rows, columns]."""
        end = self._filled + len(weights)
        self.values[self._filled : end] = weights.abs().amax(1).cpu().numpy()
        self._filled = end


def channel_columns(maxima: Any, multiplier: float) -> dict[str, float]:
    """Statistics of the channel maxima (1-D array, one per output channel).

    A channel is an outlier above `multiplier` times the median channel maximum (lower median). Percentiles are
    interpolated linearly.
    """
    import numpy as np

    values = np.sort(np.asarray(maxima, dtype=np.float64))
    median = float(values[(len(values) - 1) // 2])
    p95, p99 = (float(q) for q in np.quantile(values, (0.95, 0.99)))
    threshold = multiplier * median
    return {
        "channel_max_abs_mean": float(values.mean()),
        "channel_max_abs_median": median,
        "channel_max_abs_p95": p95,
        "channel_max_abs_p99": p99,
        "channel_max_abs_max": float(values[-1]),
        "channel_outlier_threshold": threshold,
        "channel_outlier_frac": float((values > threshold).mean()),
    }

"""The power trace of a job as parquet: one row per sample and device.

Columns: `time_s` (monotonic, 0 at the start of the window, negative while idle power was measured), `device`,
`power_w`, `energy_counter_j`, `temperature_c`, `sm_clock_mhz`, `memory_clock_mhz`, `throttle_reasons` (bits of
nvmlClocksEventReasons), `memory_used_mib`. Power is in every row; the slow columns are read every two seconds and the
counter about once a second or less, and are null in between. The schema's metadata holds `started_unix_s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from gainwatt.atomic import atomic_path
from gainwatt.energy.track import Track

_SLOW = ("temperature_c", "sm_clock_mhz", "memory_clock_mhz", "throttle_reasons", "memory_used_mib")
COLUMNS = ("time_s", "device", "power_w", "energy_counter_j", *_SLOW)


def write_trace(tracks: Sequence[Track], path: Path, start_s: float | None, wall_s: float | None) -> bool:
    """Write the samples of `tracks` to `path`; False and no file when there is no sample.

    Raises InputError when the file cannot be written. Needs pyarrow; False as well where it is not installed.
    """
    if not any(len(track.times) for track in tracks):
        return False
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return False
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for track in tracks:
        for name, values in _rows(track, start_s or 0.0).items():
            columns[name] += values
    kinds = {"device": pa.string(), "throttle_reasons": pa.int64()}
    schema = pa.schema(
        [(name, kinds.get(name, pa.float64())) for name in columns],
        metadata={"started_unix_s": str(wall_s), "time_zero": "start of the measured window"},
    )
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")
    return True


def _rows(track: Track, start_s: float) -> dict[str, list[object]]:
    count = len(track.times)
    rows: dict[str, list[object]] = {name: [None] * count for name in COLUMNS}
    rows["time_s"] = [time_s - start_s for time_s in track.times]
    rows["device"] = [track.device.info.label] * count
    rows["power_w"] = [None if math.isnan(watts) else watts for watts in track.power]
    for row, joules in track.counter_rows:
        rows["energy_counter_j"][row] = joules
    for row, reading in track.slow_rows:
        for name in _SLOW:
            value = getattr(reading, name)
            rows[name][row] = value if value is None or name == "throttle_reasons" else float(value)
    return rows

"""The power trace of a job as parquet: one row per power sample and device.

Columns: `time_s` (monotonic, 0 at the start of the window, negative while idle power was measured), `device`,
`power_w`, `energy_counter_j`, `temperature_c`, `sm_clock_mhz`, `memory_clock_mhz`, `throttle_reasons` (bits of
nvmlClocksEventReasons), `memory_used_mib`. Power is in every row; the slow columns, read every two seconds or so, and
the counter, read about once a second or less, stand in the row nearest to their reading and are null in between. A
device without a reading of power (RAPL) has one row per reading of its counter.

Every sample is kept up to `ROWS_MAX` rows a device: three hours of the 50 samples a second that an H200's driver
keeps, 1.5 to 2 MB an hour. A longer trace holds the means of power and time over equal numbers of neighbours. The
schema's metadata says how many (`samples_per_row`), and holds `started_unix_s`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from gainwatt.atomic import atomic_path
from gainwatt.energy.track import Track

ROWS_MAX = 540_000
_SLOW = ("temperature_c", "sm_clock_mhz", "memory_clock_mhz", "throttle_reasons", "memory_used_mib")
COLUMNS = ("time_s", "device", "power_w", "energy_counter_j", *_SLOW)


def write_trace(
    tracks: Sequence[Track], path: Path, start_s: float | None, wall_s: float | None, rows_max: int = ROWS_MAX
) -> bool:
    """Write the samples of `tracks` to `path`; False and no file when there is no sample.

    Raises InputError when the file cannot be written. Needs pyarrow; False as well where it is not installed.
    """
    if not any(track.times or track.counter_points for track in tracks):
        return False
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return False
    joined = max(1, math.ceil(max(len(track.times) for track in tracks) / rows_max))
    kinds = {"device": pa.string(), "throttle_reasons": pa.int64()}
    schema = pa.schema(
        [(name, kinds.get(name, pa.float64())) for name in COLUMNS],
        metadata={
            "started_unix_s": str(wall_s),
            "time_zero": "start of the measured window",
            "samples_per_row": str(joined),
        },
    )
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for track in tracks:
            writer.write_table(pa.table(_rows(track, start_s or 0.0, joined), schema=schema))
    return True


def _rows(track: Track, start_s: float, joined: int) -> dict[str, list[object]]:
    times = _means(track.times, joined) if track.times else sorted({time_s for time_s, _ in track.counter_points})
    rows: dict[str, list[object]] = {name: [None] * len(times) for name in COLUMNS}
    rows["time_s"] = [time_s - start_s for time_s in times]
    rows["device"] = [track.device.info.label] * len(times)
    if track.times:
        rows["power_w"] = list(_means(track.power, joined))
    if not times:
        return rows
    for time_s, joules in track.counter_points:
        rows["energy_counter_j"][_nearest(times, time_s)] = joules
    for time_s, reading in track.slow_points:
        row = _nearest(times, time_s)
        for name in _SLOW:
            value = getattr(reading, name)
            rows[name][row] = value if value is None or name == "throttle_reasons" else float(value)
    return rows


def _means(values: Sequence[float], joined: int) -> Sequence[float]:
    """Means over `joined` neighbours; the last group may be smaller."""
    if joined == 1:
        return values
    groups = (values[first : first + joined] for first in range(0, len(values), joined))
    return [math.fsum(group) / len(group) for group in groups]


def _nearest(times: Sequence[float], time_s: float) -> int:
    place = bisect_left(times, time_s)
    if place == 0:
        return 0
    if place == len(times) or time_s - times[place - 1] <= times[place] - time_s:
        return place - 1
    return place

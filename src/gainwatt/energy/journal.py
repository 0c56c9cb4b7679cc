"""Joules of a job that was killed, kept for the job that goes on from its checkpoint.

A record holds the energy of the process that wrote it. Where training was killed and taken up again, the first process
wrote no record, and its joules would be gone. With a journal every process keeps its energy so far in a small file
beside its checkpoints, every `PERIOD_S` seconds and when it ends in order:

    process 1   |----s----s----s--x          killed: what ran after the last snapshot s is missing, and said to be
    process 2                      |----s----s---|   its record names the joules of process 1 beside its own

Nothing is added silently: `earlier_segments` of the energy block stands beside the block's own joules.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainwatt.atomic import write_json
from gainwatt.energy.edges import Edge
from gainwatt.energy.track import Track

if TYPE_CHECKING:
    from gainwatt.energy.meter import EnergyMeter

KIND = "gainwatt-energy-journal"
PERIOD_S = 30.0


class Journal:
    """The file at `path`: segments of earlier processes, and that of this one, first written by the next round."""

    def __init__(self, path: Path, identity: str, now_s: float) -> None:
        """Read what earlier processes of the same `identity` left; a file of another one will be replaced.

        A file that cannot be read is named in `problem`, and replaced as well.
        """
        self.path = path
        self.identity = identity
        self.earlier: list[dict[str, Any]] = []
        self.problem: str | None = None
        self._due_s = now_s
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["kind"] != KIND:
                raise ValueError(f"its kind is {content['kind']!r}")
            if content["identity"] == identity:
                self.earlier = [_checked(segment) for segment in content["segments"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problem = f"{path} could not be read, so joules of earlier processes are unknown: {error}"

    def note(self, meter: EnergyMeter, *, ended: bool = False) -> None:
        """Write a snapshot where one is due, or at the end."""
        now = meter.runtime.now()
        if meter.start_s is None or (now < self._due_s and not ended):
            return
        self._due_s = now + PERIOD_S
        segments = [*self.earlier, segment(meter, ended=ended)]
        write_json(self.path, {"kind": KIND, "identity": self.identity, "segments": segments})

    def forget(self) -> None:
        """Remove the file: the record that holds its joules is written."""
        self.path.unlink(missing_ok=True)

    def block(self) -> dict[str, Any] | None:
        """The record's `earlier_segments`; None where this process is the first and nothing is unknown."""
        if not self.earlier and self.problem is None:
            return None
        devices: dict[str, float | None] = {}
        for part in self.earlier:
            for device in part["devices"]:
                before = devices.get(device["device"], 0.0)
                joules = device["gross_j"]
                devices[device["device"]] = None if before is None or joules is None else round(before + joules, 6)
        killed = sum(not part["ended"] for part in self.earlier)
        return {
            "count": len(self.earlier),
            "seconds": round(sum(part["seconds"] for part in self.earlier), 6),
            "gross_j": _sum([part["gross_j"] for part in self.earlier]) if self.problem is None else None,
            "devices": devices,
            "complete": not killed and self.problem is None,
            "note": self.problem or _note(killed),
            "segments": self.earlier,
        }


def _note(killed: int) -> str:
    if not killed:
        return "all earlier processes of this job ended in order; their energy is whole"
    return (
        f"{killed} earlier process(es) of this job were killed: what they used after their last snapshot (taken every "
        f"{PERIOD_S:.0f} s) is not contained, so the true energy is higher"
    )


def segment(meter: EnergyMeter, *, ended: bool) -> dict[str, Any]:
    """Energy of this process so far, as JSON values."""
    start = meter.start_s if meter.start_s is not None else meter.runtime.now()
    until = meter.end_s if meter.end_s is not None else meter.runtime.now()
    devices: list[dict[str, Any]] = []
    for number, track in enumerate(meter.tracks):
        edge = meter.opening[number] if number < len(meter.opening) else None
        joules = energy_so_far(track, start, until, edge)
        devices.append({"device": track.device.info.label, "uuid": track.device.info.uuid, "gross_j": joules})
    return {
        "started_unix_s": meter.start_wall_s,
        "seconds": round(until - start, 6),
        "gross_j": _sum([device["gross_j"] for device in devices]),
        "devices": devices,
        "ended": ended,
    }


def energy_so_far(track: Track, start_s: float, until_s: float, edge: Edge | None) -> float | None:
    """Joules from `start_s` to `until_s`: the counter up to its last reading, the integral of power behind it.

    None where neither covers the time. The counter is not read here: it costs milliseconds, and the sampler reads it.
    """
    curve = track.power_curve()
    time_s, joules = track.counter_points[-1] if track.counter_points else (start_s, 0.0)
    # A counter that did not move is stuck, and one that fell was reset: then power is what there is.
    if edge is not None and edge.joules is not None and start_s < time_s <= until_s and joules > edge.joules:
        rest = curve.between(time_s, until_s) if curve is not None and curve.times[-1] > time_s else 0.0
        return round(joules - edge.joules + rest, 6)
    if curve is None or track.lost is not None:
        return None
    return round(curve.between(start_s, until_s), 6)


def _sum(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return round(sum(present), 6) if present and len(present) == len(values) else None


def _checked(part: dict[str, Any]) -> dict[str, Any]:
    """A segment with the fields that `segment` writes. Raises KeyError, TypeError or ValueError."""
    for value in (part["gross_j"], *(device["gross_j"] for device in part["devices"])):
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ValueError(f"gross_j is {value!r}")
    if not math.isfinite(part["seconds"]) or not isinstance(part["ended"], bool):
        raise ValueError("seconds or ended is not what a journal holds")
    return part

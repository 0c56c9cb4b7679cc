"""Turns what a meter recorded into the `energy` block and the phases of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainwatt.energy.device_report import device_entry, rounded
from gainwatt.energy.flags import FLAG_TEXTS, explain
from gainwatt.energy.phase_report import phase_entries, phase_totals
from gainwatt.energy.sampling_report import device_sampling, sampling_block
from gainwatt.energy.track import Track
from gainwatt.energy.window import Reader, WindowEnergy

if TYPE_CHECKING:
    from gainwatt.energy.meter import EnergyMeter

IDLE_OFF = "idle power was not measured: idle_s is 0"
IDLE_TOLERANCE = 0.05
"""A board that drew this share less than idle for a second of the work was not idle when idle power was measured."""
IDLE_TOLERANCE_W = 2.0
"""And at least by these watts: a desktop board that rests at 20 W wavers by more than 5 %."""
MEAN_TOLERANCE = 0.01
"""The same for the mean over the whole work, which noise moves less: net energy would be below zero."""
MEAN_S = 1.0
"""Over less time than this, noise and the counter's ticks move a mean by more: it says nothing about idle power."""


class Report:
    """Evaluation of one meter: all windows are computed once, here."""

    def __init__(self, meter: EnergyMeter) -> None:
        self.meter = meter
        self.now = meter.end_s if meter.end_s is not None else meter.runtime.now()
        self.start = meter.start_s if meter.start_s is not None else self.now
        self.readers = [self._reader(track, number) for number, track in enumerate(meter.tracks)]
        self.idle_before = [self._idle_w(reader, meter.idle_before) for reader in self.readers]
        self.idle_after = [self._idle_w(reader, meter.idle_after) for reader in self.readers]
        self.windows = [self._window(number) for number in range(len(self.readers))]
        self.reasons: dict[str, str] = {}
        self.not_at_rest = [self._not_at_rest(number) for number in range(len(self.readers))]

    def _not_at_rest(self, number: int) -> str | None:
        """Why the idle power is none: the board drew less for a while during the work than when it was idle."""
        idle, lowest = self.idle_used_w(number), self.readers[number].track.lowest_w(self.start, self.now)
        mean = self.windows[number].mean_w()
        if idle is None:
            return None
        if lowest is not None and lowest < idle - max(IDLE_TOLERANCE * idle, IDLE_TOLERANCE_W):
            seen = f"the {lowest:.1f} W that the board drew for a second during the work"
        elif mean is not None and self.now - self.start >= MEAN_S and mean < idle * (1 - MEAN_TOLERANCE):
            seen = f"the mean of {mean:.1f} W during the work"
        else:
            return None
        return (
            f"the idle power of {idle:.1f} W is above {seen}: the board was not at rest before (another program had "
            "just used it); measure again with a longer idle_s"
        )

    def idle_used_w(self, number: int) -> float | None:
        """Idle power that net energy subtracts: the one before the work, else the one after it."""
        before = self.idle_before[number]
        return before if before is not None else self.idle_after[number]

    def net(self, number: int, gross_j: float | None, seconds: float) -> tuple[float | None, str | None, str | None]:
        """(net joules, reason, mark): gross − idle power × seconds, or None with its reason and mark.

        There is no net energy where the idle power is none, or where less was used than it explains.
        """
        idle = self.idle_used_w(number)
        if gross_j is None:
            return None, "gross_j is null", None
        if idle is None:
            return None, self.idle_reason("before", self.readers[number].track), None
        if self.not_at_rest[number] is not None:
            return None, self.not_at_rest[number], "idle_above_work"
        net = gross_j - idle * seconds
        if net >= 0:
            return net, None, None
        used, at_rest = f"{gross_j:.2f} J in {seconds:.3f} s", f"the idle power of {idle:.1f} W"
        reason = f"{used} are less than {at_rest} explains ({idle * seconds:.2f} J)"
        # Work that draws what idle draws falls on either side of it by noise; only more than that is worth a mark.
        return None, reason, "below_idle" if net < -MEAN_TOLERANCE * idle * seconds else None

    def no_energy_reason(self) -> str:
        """Why there is no energy at all."""
        if self.meter.state == "new":
            return "the meter was not started"
        missing = "; ".join(f"{name}: {why}" for name, why in self.meter.sources.reasons.items())
        return f"no meter on this machine or in this process ({missing})" if missing else "no meter was found"

    def no_meter(self) -> str:
        """Short form of `no_energy_reason` for every place but the first."""
        return "the meter was not started" if self.meter.state == "new" else "no meter; see null_reasons"

    def phases(self, limit: int | None) -> list[dict[str, Any]]:
        """See EnergyMeter.phases."""
        return phase_entries(self, limit)

    def summary(self) -> dict[str, Any]:
        """See EnergyMeter.summary."""
        meter = self.meter
        self.reasons = dict(meter.sources.reasons)
        flags = [explain(flag) for flag in meter.sources.flags]
        devices = []
        for number in range(len(self.readers)):
            entry = {**device_entry(self, number), "sampling": device_sampling(self, number)}
            devices.append(entry)
            flags += [explain(flag, entry["device"]) for flag in entry["flags"]]
        block: dict[str, Any] = {
            "boundary": meter.sources.boundary,
            "window_s": rounded(self.now - self.start),
            "started_unix_s": rounded(meter.start_wall_s),
            **self._totals(),
            "by_boundary": self._by_boundary(),
            "devices": devices,
            "idle_s": meter.idle_s,
            "sampling": sampling_block(self),
            "phase_totals": phase_totals(self),
            "flags": flags,
            "notes": list(meter.sources.notes),
            "processes": {label: list(found) for label, found in meter.processes.items()},
            "driver_version": meter.sources.driver_version,
        }
        used = {str(entry["flag"]) for entry in flags} | {f for total in block["phase_totals"] for f in total["flags"]}
        if meter.journal is not None and (earlier := meter.journal.block()) is not None:
            block["earlier_segments"] = earlier
        block["flag_texts"] = {flag: FLAG_TEXTS[flag] for flag in sorted(used)}
        if meter.problems:
            self.reasons["meter"] = "; ".join(meter.problems)
        block["null_reasons"] = self.reasons
        return block

    def _reader(self, track: Track, number: int) -> Reader:
        periods = self.meter.periods_s
        tick = periods[number] if number < len(periods) else None
        return Reader(track, tick)

    def _idle_w(self, reader: Reader, span: tuple[float, float] | None) -> float | None:
        return reader.measure(*span).mean_w() if span is not None else None

    def _window(self, number: int) -> WindowEnergy:
        meter = self.meter
        edges = None
        if len(meter.opening) > number and len(meter.closing) > number:
            edges = (meter.opening[number], meter.closing[number])
        return self.readers[number].measure(self.start, self.now, edges, short_ok=False)

    def _totals(self) -> dict[str, Any]:
        gross = self._sum([window.gross_j for window in self.windows])
        nets = [self.net(n, window.gross_j, window.seconds) for n, window in enumerate(self.windows)]
        net = self._sum([joules for joules, _, _ in nets])
        if gross is None:
            self.reasons["gross_j"] = self._missing_reason()
        if net is None:
            reasons = [reason for _, reason, _ in nets if reason is not None]
            self.reasons["net_j"] = "gross_j is null" if gross is None else reasons[0]
        return {
            "gross_j": rounded(gross),
            "net_j": rounded(net),
            "mean_w": rounded(gross / (self.now - self.start)) if gross is not None and self.now > self.start else None,
        }

    def _missing_reason(self) -> str:
        lost = [
            f"{reader.track.device.info.label}: {window.reason}"
            for reader, window in zip(self.readers, self.windows, strict=True)
            if window.gross_j is None
        ]
        return "; ".join(lost) if lost else self.no_energy_reason()

    def _by_boundary(self) -> dict[str, dict[str, float | None]]:
        result = {}
        for boundary in self.meter.sources.boundary:
            numbers = [n for n, r in enumerate(self.readers) if r.track.device.info.boundary == boundary]
            windows = [self.windows[n] for n in numbers]
            nets = [self.net(n, w.gross_j, w.seconds)[0] for n, w in zip(numbers, windows, strict=True)]
            result[boundary] = {
                "gross_j": rounded(self._sum([window.gross_j for window in windows])),
                "net_j": rounded(self._sum(nets)),
            }
        return result

    @staticmethod
    def _sum(values: list[float | None]) -> float | None:
        present = [value for value in values if value is not None]
        return sum(present) if present and len(present) == len(values) else None

    def idle_reason(self, when: str, track: Track | None = None) -> str:
        """Why the idle power `when` (before, after) is null."""
        if not self.meter.idle_s:
            return IDLE_OFF
        if track is not None and track.errors:
            return track.errors[-1].text
        return f"no readings in the idle time {when} the work"

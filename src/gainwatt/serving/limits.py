"""Whether a load should end early, and why."""

from __future__ import annotations

from gainwatt.serving.requests import Limits, RequestLog
from gainwatt.serving.saturation import Saturation


class Watch:
    """Looks at a load of `planned` requests as it goes on; each method returns the reason to end it, or None."""

    def __init__(self, limits: Limits, planned: int) -> None:
        self._limits = limits
        self._planned = planned
        self._errors = self._in_a_row = 0
        self._saturation = None if limits.saturation_s is None else Saturation(limits.saturation_s)

    def sent(self, now_ns: int, in_flight: int) -> str | None:
        """A request was sent."""
        if self._saturation is not None:
            self._saturation.sent(now_ns, in_flight)
        most = self._limits.max_in_flight
        if most is not None and in_flight > most:
            return f"saturated: {in_flight} requests under way, {most} allowed"
        return None

    def first_token(self, now_ns: int, row: RequestLog) -> None:
        """A first token arrived."""
        if self._saturation is not None:
            self._saturation.first_token(now_ns, row.ttft_ms or 0.0)

    def ended(self, row: RequestLog) -> str | None:
        """A request ended, well or not."""
        if row.status == "ok":
            self._in_a_row = 0
            return None
        self._errors += 1
        self._in_a_row += 1
        last = f"the last one {row.error_kind}: {row.error}"
        limits = self._limits
        if limits.max_errors_in_a_row is not None and self._in_a_row > limits.max_errors_in_a_row:
            return f"{self._in_a_row} requests failed one after another, {last}"
        if limits.max_errors is not None and self._errors > limits.max_errors:
            return f"{self._errors} requests failed, {limits.max_errors} allowed, {last}"
        if limits.max_error_share is not None and self._errors > limits.max_error_share * self._planned:
            allowed = f"{limits.max_error_share:.2%} of {self._planned} planned ones allowed"
            return f"{self._errors} requests failed, {allowed}, {last}"
        return None

    def periodic(self, elapsed_ns: int, now_ns: int) -> str | None:
        """Some time has passed since the start of the load."""
        most = self._limits.max_s
        if most is not None and elapsed_ns > most * 1e9:
            return f"the load took longer than {most:g} s"
        return None if self._saturation is None else self._saturation.reason(now_ns)
